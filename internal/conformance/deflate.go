package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/klauspost/compress/flate"
)

const (
	maxWindowBits = 15
	minWindowBits = 8
)

// deflateTerms are what a server agreed to (RFC 7692 §7.1).
type deflateTerms struct {
	serverNoTakeover, clientNoTakeover bool
	serverBits, clientBits             int // 8..15
}

// parseTerms reads the server's Sec-WebSocket-Extensions. ok is false when it
// chose none. offers are the permessage-deflate offers that were made; what no
// offer allows is an error.
func parseTerms(extensions string, offers []string) (terms deflateTerms, ok bool, err error) {
	terms = deflateTerms{serverBits: maxWindowBits, clientBits: maxWindowBits}
	if strings.TrimSpace(extensions) == "" {
		return terms, false, nil
	}
	offered := strings.Join(offers, ", ")
	fields := strings.Split(extensions, ";")
	if strings.TrimSpace(fields[0]) != "permessage-deflate" || offered == "" {
		return terms, false, violation("an extension that was not offered: %q", extensions)
	}
	seen := map[string]bool{}
	for _, field := range fields[1:] {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		if seen[name] {
			return terms, false, violation("%s twice in %q", name, extensions)
		}
		seen[name] = true
		if err := terms.set(name, strings.Trim(value, `"`), offered); err != nil {
			return terms, false, err
		}
	}
	return terms, true, nil
}

func (d *deflateTerms) set(name, value, offered string) error {
	switch name {
	case "server_no_context_takeover", "client_no_context_takeover":
		if value != "" {
			return violation("%s with a value", name)
		}
		d.serverNoTakeover = d.serverNoTakeover || name[0] == 's'
		d.clientNoTakeover = d.clientNoTakeover || name[0] == 'c'
		return nil
	case "server_max_window_bits", "client_max_window_bits":
		bits, err := strconv.Atoi(value)
		if err != nil || bits < minWindowBits || bits > maxWindowBits {
			return violation("%s=%q", name, value)
		}
		if name[0] == 's' {
			d.serverBits = bits
			return nil
		}
		if !strings.Contains(offered, "client_max_window_bits") {
			return violation("client_max_window_bits that was not offered")
		}
		d.clientBits = bits
		return nil
	}
	return violation("permessage-deflate parameter %q", name)
}

// deflater compresses messages the way the terms bind the client: with context
// takeover unless the server forbade it, within the client's window.
type deflater struct {
	writer   *flate.Writer
	out      bytes.Buffer
	takeover bool
}

func newDeflater(terms deflateTerms) (*deflater, error) {
	d := &deflater{takeover: !terms.clientNoTakeover}
	var err error
	if terms.clientBits < maxWindowBits {
		d.writer, err = flate.NewWriterWindow(&d.out, 1<<terms.clientBits)
	} else {
		d.writer, err = flate.NewWriter(&d.out, flate.BestSpeed)
	}
	if err != nil {
		return nil, fmt.Errorf("conformance: make deflater: %w", err)
	}
	return d, nil
}

// deflate returns the compressed payload, which stays valid until the next call.
func (d *deflater) deflate(payload []byte) ([]byte, error) {
	d.out.Reset()
	if !d.takeover {
		d.writer.Reset(&d.out)
	}
	if _, err := d.writer.Write(payload); err != nil {
		return nil, fmt.Errorf("conformance: deflate: %w", err)
	}
	if err := d.writer.Flush(); err != nil {
		return nil, fmt.Errorf("conformance: deflate: %w", err)
	}
	return bytes.TrimSuffix(d.out.Bytes(), []byte{0, 0, 0xFF, 0xFF}), nil
}

// inflater expands the server's messages and keeps the window when the server
// may refer back to it.
type inflater struct {
	terms  deflateTerms
	reader io.ReadCloser
	window []byte // what the server's compressor may refer to
	out    bytes.Buffer
}

func newInflater(terms deflateTerms) *inflater {
	return &inflater{terms: terms, reader: flate.NewReader(bytes.NewReader(nil))}
}

// inflateTail ends a message for the decoder: the four bytes the sender took
// off, and an empty last block.
var inflateTail = []byte{0, 0, 0xFF, 0xFF, 1, 0, 0, 0xFF, 0xFF}

// inflate returns the expanded payload, which stays valid until the next call.
func (d *inflater) inflate(payload []byte) ([]byte, error) {
	d.out.Reset()
	if d.terms.serverBits < maxWindowBits {
		// The library's decoder always has 32 KiB to look back on; only our
		// own sees whether the server kept to the window it promised.
		out, err := inflateWithin(payload, d.window, 1<<d.terms.serverBits)
		if err != nil {
			return nil, err
		}
		d.out.Write(out)
	} else {
		src := io.MultiReader(bytes.NewReader(payload), bytes.NewReader(inflateTail))
		if err := d.reader.(flate.Resetter).Reset(src, d.window); err != nil {
			return nil, fmt.Errorf("conformance: reset inflater: %w", err)
		}
		n, err := d.out.ReadFrom(io.LimitReader(d.reader, maxSeen+1))
		if err != nil && !errors.Is(err, io.EOF) || n > maxSeen {
			return nil, violation("a message that cannot be inflated: %v after %d bytes", err, n)
		}
	}
	if !d.terms.serverNoTakeover {
		d.window = append(d.window, d.out.Bytes()...)
		if over := len(d.window) - 1<<d.terms.serverBits; over > 0 {
			d.window = append(d.window[:0], d.window[over:]...)
		}
	}
	return d.out.Bytes(), nil
}
