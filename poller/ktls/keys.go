package ktls

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
)

// The kernel's names of ciphers (linux/tls.h).
const (
	cipherAES128GCM        = 51
	cipherAES256GCM        = 52
	cipherChaCha20Poly1305 = 54
)

// Sizes in bytes.
const (
	ivSize    = 12 // of the nonce, for all three ciphers
	saltSize  = 4  // of the part of a GCM nonce that TLS 1.2 keeps secret (RFC 5288, 3)
	recordMax = 16 << 10
)

var errCipher = errors.New("ktls: no kernel takes this version and cipher suite")

// suite is what the kernel's keys need to know of a cipher suite.
type suite struct {
	cipher  uint16
	keySize int
	hash    func() hash.Hash
}

// Only AEAD suites: the kernel has no others.
var suites = map[uint16]suite{
	tls.TLS_AES_128_GCM_SHA256:                        {cipherAES128GCM, 16, sha256.New},
	tls.TLS_AES_256_GCM_SHA384:                        {cipherAES256GCM, 32, sha512.New384},
	tls.TLS_CHACHA20_POLY1305_SHA256:                  {cipherChaCha20Poly1305, 32, sha256.New},
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:       {cipherAES128GCM, 16, sha256.New},
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:         {cipherAES128GCM, 16, sha256.New},
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384:       {cipherAES256GCM, 32, sha512.New384},
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:         {cipherAES256GCM, 32, sha512.New384},
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: {cipherChaCha20Poly1305, 32, sha256.New},
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:   {cipherChaCha20Poly1305, 32, sha256.New},
}

// traffic is one direction of a session.
type traffic struct {
	key []byte
	iv  []byte // ivSize bytes; for TLS 1.2 with GCM the salt and the first explicit nonce
	seq uint64 // of the next record
}

// keys are all that the kernel needs to go on with a session.
type keys struct {
	version, cipher uint16
	read, write     traffic
}

// info is the kernel's struct tls12_crypto_info_*: version, cipher, nonce, key, salt, sequence.
func (k keys) info(t traffic) []byte {
	b := binary.NativeEndian.AppendUint16(nil, k.version)
	b = binary.NativeEndian.AppendUint16(b, k.cipher)
	if k.cipher == cipherChaCha20Poly1305 {
		b = append(append(b, t.iv...), t.key...)
	} else {
		b = append(append(append(b, t.iv[saltSize:]...), t.key...), t.iv[:saltSize]...)
	}
	return binary.BigEndian.AppendUint64(b, t.seq)
}

// secrets is a tls.Config.KeyLogWriter that keeps the secrets of one session instead of writing them anywhere.
type secrets struct {
	client, server       []byte // TLS 1.3: the first application traffic secrets
	master, clientRandom []byte // TLS 1.2
}

// Write takes one line: label, client random, secret.
func (s *secrets) Write(line []byte) (int, error) {
	fields := bytes.Fields(line)
	if len(fields) != 3 {
		return 0, errors.New("ktls: crypto/tls logs keys in a form not known here")
	}
	random, err := hex.AppendDecode(nil, fields[1])
	if err != nil {
		return 0, fmt.Errorf("ktls: client random in key log: %w", err)
	}
	secret, err := hex.AppendDecode(nil, fields[2])
	if err != nil {
		return 0, fmt.Errorf("ktls: secret in key log: %w", err)
	}
	switch string(fields[0]) {
	case "CLIENT_TRAFFIC_SECRET_0":
		s.client = secret
	case "SERVER_TRAFFIC_SECRET_0":
		s.server = secret
	case "CLIENT_RANDOM":
		s.master, s.clientRandom = secret, random
	}
	return len(line), nil
}

// keys derives the server's keys after a whole handshake. written is the number of records the server has written with
// its application keys, which are tickets.
func (s *secrets) keys(version, suiteID uint16, serverRandom []byte, written uint64) (keys, error) {
	u, ok := suites[suiteID]
	if !ok {
		return keys{}, errCipher
	}
	k := keys{version: version, cipher: u.cipher}
	switch {
	case version == tls.VersionTLS13 && s.client != nil && s.server != nil:
		var err error
		if k.read, err = u.expand(s.client); err != nil {
			return keys{}, err
		}
		if k.write, err = u.expand(s.server); err != nil {
			return keys{}, err
		}
		k.write.seq = written
	case version == tls.VersionTLS12 && s.master != nil && serverRandom != nil:
		k.read, k.write = u.keyBlock(s.master, serverRandom, s.clientRandom)
	default: // a resumed TLS 1.2 session logs nothing
		return keys{}, errCipher
	}
	return k, nil
}

// expand derives key and iv from a TLS 1.3 traffic secret (RFC 8446, 7.3).
func (u suite) expand(secret []byte) (t traffic, err error) {
	if t.key, err = hkdf.Expand(u.hash, secret, label("key", u.keySize), u.keySize); err != nil {
		return t, fmt.Errorf("ktls: derive key: %w", err)
	}
	if t.iv, err = hkdf.Expand(u.hash, secret, label("iv", ivSize), ivSize); err != nil {
		return t, fmt.Errorf("ktls: derive iv: %w", err)
	}
	return t, nil
}

// label is the struct HkdfLabel with an empty context (RFC 8446, 7.1).
func label(name string, size int) string {
	name = "tls13 " + name
	return string([]byte{byte(size >> 8), byte(size), byte(len(name))}) + name + "\x00"
}

// keyBlock cuts the TLS 1.2 key block (RFC 5246, 6.3) into the client's and the server's part. Each side has sent one
// record under these keys, its Finished.
func (u suite) keyBlock(master, serverRandom, clientRandom []byte) (client, server traffic) {
	fixed := saltSize
	if u.cipher == cipherChaCha20Poly1305 {
		fixed = ivSize
	}
	block := prf(u.hash, master, slices.Concat([]byte("key expansion"), serverRandom, clientRandom), 2*(u.keySize+fixed))
	cut := func(n int) (part []byte) {
		part, block = block[:n:n], block[n:]
		return part
	}
	client.key, server.key = cut(u.keySize), cut(u.keySize)
	client.iv, server.iv = cut(fixed), cut(fixed)
	client.seq, server.seq = 1, 1
	if fixed == saltSize {
		client.iv = binary.BigEndian.AppendUint64(client.iv, client.seq)
		server.iv = binary.BigEndian.AppendUint64(server.iv, server.seq)
	}
	return client, server
}

// prf is TLS 1.2's P_hash (RFC 5246, 5); seed begins with the label.
func prf(h func() hash.Hash, secret, seed []byte, size int) []byte {
	mac := hmac.New(h, secret)
	sum := func(parts ...[]byte) []byte {
		mac.Reset()
		for _, p := range parts {
			_, _ = mac.Write(p) // a hash never fails
		}
		return mac.Sum(nil)
	}
	var out []byte
	for a := sum(seed); len(out) < size; a = sum(a) {
		out = append(out, sum(a, seed)...)
	}
	return out[:size]
}
