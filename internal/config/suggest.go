package config

import "strings"

// suggestion names what was meant, if anything is near.
func suggestion(word string, known []string) string {
	best, least := "", max(2, len(word)/3)+1
	for _, k := range known {
		d := distance(word, k)
		if len(word) >= 4 && strings.HasPrefix(k, word) || strings.HasPrefix(word, k) {
			d = min(d, 2) // a name cut short, or with too much at its end
		}
		if d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return `, did you mean "` + best + `"?`
}

// distance is Levenshtein's, in bytes; - and _ count as the same.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] || a[i] == '_' && b[j] == '-' {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
