package report

import (
	"math"
	"strconv"
	"strings"

	"github.com/adamantdb/adamant/bench/internal/saved"
)

// number has at least three digits that say something, and groups of thousands.
func number(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "–"
	}
	size := math.Abs(v)
	switch {
	case size >= 1e15 || size > 0 && size < 1e-4:
		return strconv.FormatFloat(v, 'g', 3, 64)
	case size >= 100:
		return grouped(strconv.FormatFloat(v, 'f', 0, 64))
	}
	// The exponent after rounding to three digits says how many decimals those are.
	_, exponent, _ := strings.Cut(strconv.FormatFloat(v, 'e', 2, 64), "e")
	e, _ := strconv.Atoi(exponent)
	if v == 0 || e >= 2 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'f', 2-e, 64)
}

// mark is a number beside an axis.
func mark(v float64) string {
	text := number(v)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// grouped puts narrow spaces between thousands.
func grouped(digits string) string {
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "\u202f" + digits[i:]
	}
	return digits
}

// scaled is the spread in the unit in which it is shown.
func scaled(s saved.Spread, scale float64) saved.Spread {
	out := saved.Spread{Median: s.Median * scale, Min: s.Min * scale, Max: s.Max * scale}
	for _, v := range s.Rounds {
		out.Rounds = append(out.Rounds, v*scale)
	}
	return out
}

// finite drops what cannot be drawn.
func finite(values []float64) []float64 {
	var out []float64
	for _, v := range values {
		if drawable(v) {
			out = append(out, v)
		}
	}
	return out
}

// drawable leaves out what no axis can hold along with others.
func drawable(v float64) bool { return math.Abs(v) < 1e100 } // which NaN is not
