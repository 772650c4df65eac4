package pgbackrest

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// The exit codes of pgBackRest that mean something to us; its own names. They have been the
// same since version 2.0.
const (
	codeConfig             = 27
	codeFileInvalid        = 28
	codeOptionInvalid      = 31
	codeOptionInvalidValue = 32
	codeOptionRequired     = 37
	codeProtocol           = 39
	codeFileOpen           = 41
	codeFileRead           = 42
	codeArchiveMismatch    = 44
	codePathCreate         = 47
	codeHostConnect        = 49
	codeLockAcquire        = 50
	codeBackupMismatch     = 51
	codePathOpen           = 53
	codePathSync           = 54
	codeFileMissing        = 55
	codeDBConnect          = 56
	codeDBQuery            = 57
	codeDBMismatch         = 58
	codeStop               = 62
	codeTerm               = 63
	codeFileWrite          = 64
	codeArchiveCommand     = 68
	codeHostInvalid        = 72
	codePathMissing        = 73
	codeDBMissing          = 80
	codeDBInvalid          = 81
	codeArchiveTimeout     = 82
	codeArchiveDisabled    = 87
	codeCrypto             = 95
	codeFileInfo           = 98
	codeService            = 101
	codeRepoInvalid        = 103
	codeAccess             = 105
)

// meaning is what a code says about a cluster's backups, in our words.
type meaning struct {
	reason observed.Reason
	words  string
	next   string // {cluster} and {node} stand for their names
}

const (
	nextCheck  = "pgctrl backup check {cluster}"
	nextStatus = "pgctrl status {cluster}"
)

var (
	unreachable = meaning{observed.RepositoryUnreachable, "the backup repository can't be reached", nextCheck}
	mismatch    = meaning{observed.StanzaMissing, "the backup repository has another database under this cluster's name", nextCheck}
	settings    = meaning{observed.Rejected, "pgBackRest does not take its settings", "pgctrl get {cluster} backup"}
	silent      = meaning{observed.NotAnswering, "pgBackRest can't ask PostgreSQL", nextStatus}
	off         = meaning{observed.ArchivingOff, "PostgreSQL does not archive with pgBackRest", nextStatus}
)

// meanings has the codes that are not simply a failure.
var meanings = map[int]meaning{
	codeConfig: settings, codeOptionInvalid: settings, codeOptionInvalidValue: settings, codeOptionRequired: settings,
	codeFileInvalid: mismatch, codeArchiveMismatch: mismatch, codeBackupMismatch: mismatch,
	codeProtocol: unreachable, codeFileOpen: unreachable, codeFileRead: unreachable, codePathCreate: unreachable, codeHostConnect: unreachable,
	codePathOpen: unreachable, codePathSync: unreachable, codeFileWrite: unreachable, codeHostInvalid: unreachable, codePathMissing: unreachable,
	codeCrypto: unreachable, codeFileInfo: unreachable, codeService: unreachable, codeRepoInvalid: unreachable, codeAccess: unreachable,
	codeLockAcquire:    {observed.BackupRunning, "another pgBackRest holds the lock of this cluster", "pgrep -a pgbackrest (on {node})"},
	codeFileMissing:    {observed.StanzaMissing, "the backup repository has no stanza for this cluster", nextCheck},
	codeDBConnect:      silent,
	codeDBQuery:        silent,
	codeDBMismatch:     silent,
	codeDBMissing:      silent,
	codeDBInvalid:      silent,
	codeStop:           {observed.BackupFailed, "pgBackRest was stopped by hand for this cluster", "pgbackrest --config=" + plan.BackupConfig("{cluster}") + " --stanza={cluster} start (as postgres on {node})"},
	codeTerm:           {observed.BackupFailed, "it was stopped; the next backup takes up what was copied", nextStatus},
	codeArchiveCommand: off, codeArchiveDisabled: off,
	codeArchiveTimeout: {observed.ArchiveFailing, "a segment of WAL did not reach the archive in time", nextCheck},
}

// failed is what an exit code other than 0 means, with pgBackRest's own words behind it.
func failed(what, cluster, node string, code int, output string) *plan.Refusal {
	m, known := meanings[code]
	if !known {
		m = meaning{observed.BackupFailed, "pgBackRest failed", "journalctl -n 60 -u " + plan.BackupUnit("{cluster}") + " (on {node})"}
	}
	r := &plan.Refusal{Reason: m.reason, Message: what + ": " + m.words}
	if words := lastError(output); words != "" {
		r.Message += fmt.Sprintf(" (%s)", words)
	} else {
		r.Message += fmt.Sprintf(" (exit code %d)", code)
	}
	r.Next = strings.NewReplacer("{cluster}", cluster, "{node}", node).Replace(m.next)
	return r
}

// errorLine is how pgBackRest begins what went wrong; its hints stand below.
var errorLine = regexp.MustCompile(`ERROR: \[(\d+)\]: (.*)`)

// lastError is pgBackRest's own words: the last error, without its time and hints.
func lastError(output string) string {
	all := errorLine.FindAllStringSubmatch(output, -1)
	if len(all) == 0 {
		return ""
	}
	last := all[len(all)-1]
	return "[" + last[1] + "] " + strings.TrimSpace(last[2])
}
