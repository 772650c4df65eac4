package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// MaxOps is how many operations, and how many guards, one Commit may have: etcd
// refuses a transaction with more.
const MaxOps = 128

// ErrConflict means that a guard did not hold: somebody else wrote first.
// errors.As with *Conflict tells which key it was.
var ErrConflict = errors.New("key changed meanwhile")

// ErrTooManyOps means that a Commit had more than MaxOps guards or operations.
var ErrTooManyOps = errors.New("too many operations for one transaction")

// Conflict is the error of a Commit whose guard did not hold. It is an ErrConflict.
type Conflict struct {
	// Key is the first guarded key that was not as expected.
	Key string
	// Found is the mod revision it has instead; 0 when it does not exist.
	Found int64
}

// Error implements error.
func (e *Conflict) Error() string {
	if e.Found == 0 {
		return fmt.Sprintf("%v: %s does not exist", ErrConflict, e.Key)
	}
	return fmt.Sprintf("%v: %s is at revision %d", ErrConflict, e.Key, e.Found)
}

// Is makes every Conflict an ErrConflict.
func (e *Conflict) Is(target error) bool { return target == ErrConflict }

// Guard is a condition under which a Commit takes place.
type Guard struct {
	key   string
	kind  guardKind
	rev   int64
	value []byte
}

type guardKind int

const (
	modIs guardKind = iota
	createIs
	valueIs
)

// ModIs holds while the key was last written at rev; 0 means that it does not
// exist. There is no guard on etcd's Version, on purpose: it starts at 1 again
// when a key is deleted and written anew, so an unchanged Version proves nothing.
func ModIs(key string, rev int64) Guard { return Guard{key: key, kind: modIs, rev: rev} }

// CreateIs holds while the key has existed since rev without a break; 0 means
// that it does not exist.
func CreateIs(key string, rev int64) Guard { return Guard{key: key, kind: createIs, rev: rev} }

// ValueIs holds while the key exists with exactly this value.
func ValueIs(key string, value []byte) Guard { return Guard{key: key, kind: valueIs, value: value} }

func (g Guard) compare() clientv3.Cmp {
	switch g.kind {
	case createIs:
		return clientv3.Compare(clientv3.CreateRevision(g.key), "=", g.rev)
	case valueIs:
		return clientv3.Compare(clientv3.Value(g.key), "=", string(g.value))
	}
	return clientv3.Compare(clientv3.ModRevision(g.key), "=", g.rev)
}

// holds evaluates the guard on what a failed transaction read.
func (g Guard) holds(found []*pb.ResponseOp) (ok bool, mod int64) {
	var create int64
	var value []byte
	exists := false
	for _, r := range found {
		for _, e := range r.GetResponseRange().GetKvs() {
			if string(e.Key) == g.key {
				exists, mod, create, value = true, e.ModRevision, e.CreateRevision, e.Value
			}
		}
	}
	switch g.kind {
	case createIs:
		return create == g.rev, mod
	case valueIs:
		return exists && bytes.Equal(value, g.value), mod
	}
	return mod == g.rev, mod
}

// Op is one write of a Commit.
type Op struct {
	op  clientv3.Op
	key string
}

// Put writes a key and takes it off any lease.
func Put(key string, value []byte) Op {
	return Op{op: clientv3.OpPut(key, string(value)), key: key}
}

// PutLeased writes a key that lives as long as the lease.
func PutLeased(key string, value []byte, lease int64) Op {
	return Op{op: clientv3.OpPut(key, string(value), clientv3.WithLease(clientv3.LeaseID(lease))), key: key}
}

// Delete removes a key; it is no error when it does not exist.
func Delete(key string) Op { return Op{op: clientv3.OpDelete(key), key: key} }

// Commit does all ops at one revision if every guard holds, else nothing and
// ErrConflict. Any other error leaves open whether it happened: the answer may be
// what got lost. Guards on what is written make trying again safe.
func (c *Client) Commit(ctx context.Context, guards []Guard, ops []Op) (int64, error) {
	if len(ops) > MaxOps || len(guards) > MaxOps {
		return 0, fmt.Errorf("commit %d operations under %d guards: %w (at most %d)", len(ops), len(guards), ErrTooManyOps, MaxOps)
	}
	cmps := make([]clientv3.Cmp, len(guards))
	reads := make([]clientv3.Op, len(guards))
	for i, g := range guards {
		cmps[i] = g.compare()
		reads[i] = g.read()
	}
	writes := make([]clientv3.Op, len(ops))
	for i, o := range ops {
		writes[i] = o.op
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.kv.Txn(ctx).If(cmps...).Then(writes...).Else(reads...).Commit()
	if err != nil {
		return 0, fmt.Errorf("commit %s: %w", opNames(ops), refined(err))
	}
	if resp.Succeeded {
		return resp.Header.GetRevision(), nil
	}
	for _, g := range guards {
		if ok, mod := g.holds(resp.Responses); !ok {
			return 0, fmt.Errorf("commit %s: %w", opNames(ops), &Conflict{Key: g.key, Found: mod})
		}
	}
	return 0, fmt.Errorf("commit %s: %w", opNames(ops), ErrConflict)
}

// read is what tells, after a conflict, which guard it was.
func (g Guard) read() clientv3.Op {
	if g.kind == valueIs {
		return clientv3.OpGet(g.key)
	}
	return clientv3.OpGet(g.key, clientv3.WithKeysOnly())
}

// opNames is what an error message calls the transaction.
func opNames(ops []Op) string {
	switch len(ops) {
	case 0:
		return "nothing"
	case 1:
		return ops[0].key
	}
	return fmt.Sprintf("%s and %d more", ops[0].key, len(ops)-1)
}
