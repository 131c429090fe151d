package gateway

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"

	"roost/poller"
)

// ids turns the handle of a connection into the client's id and back: the id is the
// handle and a tag of the node, encrypted as one block. So it is unique, cannot be
// guessed, costs no memory per client and is found without an index.
type ids struct {
	secret [24]byte // key and tag
	block  cipher.Block
	tag    uint64
}

func newIDs() *ids {
	var x ids
	_, _ = rand.Read(x.secret[:]) // never fails, see crypto/rand
	return x.init()
}

// oldIDs makes those of another node, by its secret.
func oldIDs(secret []byte) (*ids, error) {
	var x ids
	if copy(x.secret[:], secret) != len(x.secret) {
		return nil, errors.New("gateway: the secret of client ids has a wrong length")
	}
	return x.init(), nil
}

func (x *ids) init() *ids {
	block, err := aes.NewCipher(x.secret[:16])
	if err != nil {
		panic(err) // the key has a valid length
	}
	x.block, x.tag = block, binary.BigEndian.Uint64(x.secret[16:])
	return x
}

// id returns the client id in the form of a UUID.
func (x *ids) id(h poller.Handle) string {
	var room [36]byte
	return string(x.appendID(room[:0], h))
}

func (x *ids) appendID(dst []byte, h poller.Handle) []byte {
	const digits = "0123456789abcdef"
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(h))
	binary.BigEndian.PutUint64(b[8:], x.tag)
	x.block.Encrypt(b[:], b[:])
	for i, v := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst = append(dst, '-')
		}
		dst = append(dst, digits[v>>4], digits[v&15])
	}
	return dst
}

// handle returns the connection an id of this node names.
func (x *ids) handle(id string) (poller.Handle, bool) {
	if len(id) != 36 {
		return 0, false
	}
	var b [16]byte
	at := 0
	for i := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			if id[at] != '-' {
				return 0, false
			}
			at++
		}
		if _, err := hex.Decode(b[i:i+1], []byte(id[at:at+2])); err != nil {
			return 0, false
		}
		at += 2
	}
	x.block.Decrypt(b[:], b[:])
	if binary.BigEndian.Uint64(b[8:]) != x.tag {
		return 0, false
	}
	return poller.Handle(binary.BigEndian.Uint64(b[:8])), true
}
