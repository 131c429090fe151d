package sync

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"

	"roost/service"
)

// kind is what an object is: the first letter of its id.
type kind byte

const (
	kindDocument kind = 'd'
	kindMap      kind = 'm'
	kindList     kind = 'l'
	kindStream   kind = 's'
)

var kinds = map[string]kind{"document": kindDocument, "map": kindMap, "list": kindList, "stream": kindStream}

func (k kind) String() string {
	for name, each := range kinds {
		if each == k {
			return name
		}
	}
	return "object of unknown type"
}

const (
	idBytes = 16
	idLen   = 1 + 26
)

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// namedID is the id of an object with a name: it follows from it, so that nothing has to be looked up.
func namedID(k kind, name string) string {
	sum := sha256.Sum256([]byte(k.String() + "\x00" + name))
	return string(k) + idEncoding.EncodeToString(sum[:idBytes])
}

// newID is the id of an object without a name. With a key of idempotency it follows from that and from who
// creates it, so that a second try is about the object of the first.
func newID(k kind, by service.Caller, key string) string {
	if key == "" {
		key = rand.Text()
	}
	// Names are summed up behind their type, so that none comes to the same.
	sum := sha256.Sum256(fmt.Appendf(nil, "new %s %t %q %q", k, by.Trusted, by.User, key))
	return string(k) + idEncoding.EncodeToString(sum[:idBytes])
}

// kindOf returns what an id stands for; false if it is none.
func kindOf(id string) (kind, bool) {
	if len(id) != idLen || !strings.ContainsRune("dmls", rune(id[0])) {
		return 0, false
	}
	return kind(id[0]), strings.Trim(id[1:], "abcdefghijklmnopqrstuvwxyz234567") == ""
}

// Namespace is that of the objects' channels.
const Namespace = "sync"

// Channel returns the channel of an object's events.
func Channel(id string) string { return Namespace + ":" + id }

const maxName = 320

func checkName(name string) error {
	if len(name) > maxName || !utf8.ValidString(name) {
		return failf(CodeBadName, "name has %d bytes, must be 1 to %d of UTF-8", len(name), maxName)
	}
	return nil
}

// indexKey makes an index a key, so that keys of a list are in the order of its indexes.
func indexKey(i uint64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], i)
	return string(b[:])
}

func keyIndex(key string) uint64 { return binary.BigEndian.Uint64([]byte(key)) }
