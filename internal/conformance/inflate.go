package conformance

import "errors"

// A small inflater (RFC 1951) that refuses to look back further than the
// window a server agreed to. It is slow and meant for checking only.

var (
	errDeflateTruncated = errors.New("conformance: deflate stream ends inside a block")
	errDeflateInvalid   = errors.New("conformance: deflate stream is invalid")
)

var (
	lengthBase = [29]int{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131,
		163, 195, 227, 258}
	lengthExtra = [29]uint{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase    = [30]int{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537,
		2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distExtra = [30]uint{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12,
		13, 13}
	codeOrder = [19]int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
)

type bitReader struct {
	src  []byte
	word uint64
	have uint
}

func (r *bitReader) bits(n uint) (int, error) {
	for r.have < n {
		if len(r.src) == 0 {
			return 0, errDeflateTruncated
		}
		r.word |= uint64(r.src[0]) << r.have
		r.src = r.src[1:]
		r.have += 8
	}
	v := int(r.word & (1<<n - 1))
	r.word >>= n
	r.have -= n
	return v, nil
}

// huffman is a canonical code: how many symbols have each length, and the
// symbols in order.
type huffman struct {
	counts  [16]int
	symbols []int
}

func newHuffman(lengths []int) huffman {
	var h huffman
	for _, l := range lengths {
		h.counts[l]++
	}
	h.counts[0] = 0
	for want := 1; want < 16; want++ {
		for symbol, l := range lengths {
			if l == want {
				h.symbols = append(h.symbols, symbol)
			}
		}
	}
	return h
}

func (r *bitReader) symbol(h *huffman) (int, error) {
	code, first, index := 0, 0, 0
	for l := 1; l < 16; l++ {
		bit, err := r.bits(1)
		if err != nil {
			return 0, err
		}
		code |= bit
		if count := h.counts[l]; code-count < first {
			return h.symbols[index+code-first], nil
		}
		index += h.counts[l]
		first = (first + h.counts[l]) << 1
		code <<= 1
	}
	return 0, errDeflateInvalid
}

// inflateWithin expands one message, payload without its 00 00 FF FF, after
// history; a reference over more than window bytes is an errViolation.
func inflateWithin(payload, history []byte, window int) ([]byte, error) {
	r := &bitReader{src: append(append([]byte(nil), payload...), inflateTail...)}
	out := append([]byte(nil), history...)
	for last := 0; last == 0; {
		var err error
		if last, err = r.bits(1); err != nil {
			return nil, err
		}
		kind, err := r.bits(2)
		if err != nil {
			return nil, err
		}
		switch kind {
		case 0:
			out, err = r.stored(out)
		case 1:
			lit, dist := fixedCodes()
			out, err = r.block(out, &lit, &dist, window)
		case 2:
			var lit, dist huffman
			if lit, dist, err = r.dynamicCodes(); err == nil {
				out, err = r.block(out, &lit, &dist, window)
			}
		default:
			err = errDeflateInvalid
		}
		if err != nil {
			return nil, err
		}
	}
	return out[len(history):], nil
}

func (r *bitReader) stored(out []byte) ([]byte, error) {
	r.word, r.have = r.word>>(r.have%8), r.have-r.have%8
	size, err := r.bits(16)
	if err != nil {
		return nil, err
	}
	check, err := r.bits(16)
	if err != nil {
		return nil, err
	}
	if size != check^0xFFFF {
		return nil, errDeflateInvalid
	}
	for range size {
		b, err := r.bits(8)
		if err != nil {
			return nil, err
		}
		out = append(out, byte(b))
	}
	return out, nil
}

func fixedCodes() (lit, dist huffman) {
	lengths := make([]int, 288)
	for i := range lengths {
		switch {
		case i < 144 || i > 279:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		default:
			lengths[i] = 7
		}
	}
	dists := make([]int, 30)
	for i := range dists {
		dists[i] = 5
	}
	return newHuffman(lengths), newHuffman(dists)
}

func (r *bitReader) dynamicCodes() (lit, dist huffman, err error) {
	var counts [3]int
	for i, spec := range [3]struct {
		bits uint
		base int
	}{{5, 257}, {5, 1}, {4, 4}} {
		n, err := r.bits(spec.bits)
		if err != nil {
			return lit, dist, err
		}
		counts[i] = n + spec.base
	}
	var first [19]int
	for i := range counts[2] {
		if first[codeOrder[i]], err = r.bits(3); err != nil {
			return lit, dist, err
		}
	}
	code := newHuffman(first[:])
	total := counts[0] + counts[1]
	lengths := make([]int, 0, total)
	for len(lengths) < total {
		symbol, err := r.symbol(&code)
		if err != nil {
			return lit, dist, err
		}
		value, repeat := symbol, 1
		if symbol >= 16 {
			spec := [3]struct {
				bits uint
				base int
			}{{2, 3}, {3, 3}, {7, 11}}[symbol-16]
			n, err := r.bits(spec.bits)
			if err != nil {
				return lit, dist, err
			}
			value, repeat = 0, n+spec.base
			if symbol == 16 {
				if len(lengths) == 0 {
					return lit, dist, errDeflateInvalid
				}
				value = lengths[len(lengths)-1]
			}
		}
		for range repeat {
			lengths = append(lengths, value)
		}
	}
	if len(lengths) > total {
		return lit, dist, errDeflateInvalid
	}
	return newHuffman(lengths[:counts[0]]), newHuffman(lengths[counts[0]:]), nil
}

func (r *bitReader) block(out []byte, lit, dist *huffman, window int) ([]byte, error) {
	for {
		symbol, err := r.symbol(lit)
		if err != nil {
			return nil, err
		}
		switch {
		case symbol < 256:
			out = append(out, byte(symbol))
			continue
		case symbol == 256:
			return out, nil
		case symbol > 285:
			return nil, errDeflateInvalid
		}
		extra, err := r.bits(lengthExtra[symbol-257])
		if err != nil {
			return nil, err
		}
		length := lengthBase[symbol-257] + extra
		if symbol, err = r.symbol(dist); err != nil {
			return nil, err
		}
		if symbol > 29 {
			return nil, errDeflateInvalid
		}
		if extra, err = r.bits(distExtra[symbol]); err != nil {
			return nil, err
		}
		back := distBase[symbol] + extra
		if back > window || back > len(out) {
			return nil, violation("a reference %d bytes back in a window of %d, with %d bytes there", back, window, len(out))
		}
		for range length {
			out = append(out, out[len(out)-back])
		}
	}
}
