// Package desired is what people write: the documents under the desired keys,
// their fields, defaults and effects, and everything that can be wrong with them.
//
// A document kind is one struct whose tags say everything about its fields, once.
// From that table come parsing, defaults, `pgctrl explain`, the effect of a
// change, completion and the JSON schema; a new kind is one new file that calls
// register.
//
// Reading is strict and total: any bytes give either a document or problems that
// name key, line, column, field, what was expected and what was found. Nothing
// here does I/O.
package desired

//go:generate go run ./internal/gen ../../configs/schema ../../docs/documents.md
