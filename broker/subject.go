package broker

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
)

// CheckPrefix says why p can be no Options.Prefix; "" is the default one.
func CheckPrefix(p string) error {
	if strings.Trim(p, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return fmt.Errorf("broker: prefix %q is not of a-z, 0-9 and -", p)
	}
	return nil
}

// own are the second tokens of the subjects that brokers of a prefix use among themselves.
var own = []string{"ch", "f", "h", "l", "node", "nodes", "once", "p", "q", "svc", "w"}

// Internal tells whether subject, or one that begins with it and a dot, is the brokers'
// own: other services must stay away from these.
func Internal(prefix, subject string) bool {
	tokens := strings.SplitN(subject, ".", 3)
	switch {
	case strings.HasPrefix(tokens[0], "_") || strings.HasPrefix(tokens[0], "$"):
		return true // inboxes, and what NATS itself offers
	case tokens[0] != prefix:
		return false
	}
	return len(tokens) == 1 || slices.Contains(own, tokens[1])
}

// shards is the number of partitions of live subjects, and of the state about
// channels. It is part of the subjects: all nodes must agree on it.
const shards = 256

func shardOf(ch string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(ch)) // never fails
	s := h.Sum32()
	return int((s ^ s>>8 ^ s>>16 ^ s>>24) % shards)
}

const hexDigits = "0123456789ABCDEF"

// plain tells what a channel's name may have as it is in a token of a subject: neither
// separators nor wildcards, no controls, and nothing beyond ASCII.
func plain(c byte) bool {
	return c > ' ' && c < 0x7f && c != '.' && c != '*' && c != '>' && c != '%'
}

// appendToken appends a channel's name as one token of a subject, other bytes as %XX.
func appendToken(dst []byte, ch string) []byte {
	for i := range len(ch) {
		if c := ch[i]; plain(c) {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return dst
}

// fromToken undoes appendToken.
func fromToken(s string) (ch string, ok bool) {
	var out []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			if out != nil {
				out = append(out, s[i])
			}
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		hi, lo := unhex(s[i+1]), unhex(s[i+2])
		if hi > 15 || lo > 15 {
			return "", false
		}
		if out == nil {
			out = append(make([]byte, 0, len(s)), s[:i]...)
		}
		out = append(out, hi<<4|lo)
		i += 2
	}
	if out == nil {
		return s, len(s) > 0
	}
	return string(out), true
}

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}
