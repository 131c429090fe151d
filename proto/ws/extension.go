package ws

import "strings"

// chooseDeflate takes the first acceptable permessage-deflate offer of a Sec-WebSocket-Extensions list (RFC 6455
// section 9.1, RFC 7692 section 5.1 and 7.1).
func (u *Upgrade) chooseDeflate(list string) {
	for list != "" {
		var offer string
		offer, list = cutUnquoted(list, ',')
		if bits, bound, ok := deflateOffer(offer); ok {
			u.Deflate, u.WindowBits, u.boundWindow = true, bits, bound
			return
		}
	}
}

// deflateOffer judges one offer. An unknown, repeated or invalid parameter makes it unacceptable (RFC 7692
// section 7.1). bits is the window it leaves the server, bound whether it names one.
func deflateOffer(offer string) (bits uint8, bound, ok bool) {
	name, rest := cutUnquoted(offer, ';')
	if !strings.EqualFold(trimSpace(name), "permessage-deflate") {
		return 0, false, false
	}
	bits = MaxWindowBits
	more := len(name) < len(offer)
	for seen := 0; more; {
		var param string
		before := len(rest)
		param, rest = cutUnquoted(rest, ';')
		more = len(param) < before
		key, value, hasValue := strings.Cut(param, "=")
		key, value = strings.ToLower(trimSpace(key)), trimSpace(value)
		var flag int
		switch key {
		case "server_no_context_takeover":
			flag, ok = 1, !hasValue
		case "client_no_context_takeover":
			flag, ok = 2, !hasValue
		case "server_max_window_bits":
			flag, bound = 4, true
			bits, ok = windowBits(value)
		case "client_max_window_bits":
			// A hint that the client can bound its window; ours takes any, so the answer leaves it out.
			if flag, ok = 8, !hasValue; hasValue {
				_, ok = windowBits(value)
			}
		default:
			ok = false
		}
		if !ok || seen&flag != 0 {
			return 0, false, false
		}
		seen |= flag
	}
	return bits, bound, true
}

// windowBits parses 8 to 15, without leading zeros (RFC 7692 section 7.1.2), plain or as a quoted string (RFC 6455
// section 9.1).
func windowBits(s string) (uint8, bool) {
	if n := len(s); n >= 2 && s[0] == '"' && s[n-1] == '"' {
		s = s[1 : n-1]
	}
	switch {
	case len(s) == 1 && s[0] >= '8' && s[0] <= '9':
		return s[0] - '0', true
	case len(s) == 2 && s[0] == '1' && s[1] >= '0' && s[1] <= '5':
		return 10 + s[1] - '0', true
	}
	return 0, false
}

// cutUnquoted cuts s at the first sep outside of a quoted string. Without one, all of s is before.
func cutUnquoted(s string, sep byte) (before, after string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == sep && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

func trimSpace(s string) string { return strings.Trim(s, " \t") }
