package main

import (
	"math"
	"slices"
)

// spread is the middle and the ends of a figure over the rounds.
type spread struct {
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Rounds []float64 `json:"rounds"` // in the order they were measured
}

// spreadOf wants at least one value.
func spreadOf(values []float64) spread {
	return spread{Median: median(values), Min: slices.Min(values), Max: slices.Max(values), Rounds: values}
}

// median is the middle value, or the mean of the two in the middle; NaN of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}

// spreads gathers the figures of several rounds. A figure that some round lacks is left out: its median would be of
// other rounds than the rest.
func spreads(rounds []figures) map[string]spread {
	out := map[string]spread{}
	for key := range rounds[0] {
		if values, ok := column(rounds, key); ok {
			out[key] = spreadOf(values)
		}
	}
	return out
}

func column(rounds []figures, key string) ([]float64, bool) {
	values := make([]float64, 0, len(rounds))
	for _, f := range rounds {
		v, ok := f[key]
		if !ok {
			return nil, false
		}
		values = append(values, v)
	}
	return values, true
}

// ratios divides the figures of two variants round by round. A figure that was zero in a round of the divisor has none.
func ratios(of, to []figures) map[string]spread {
	out := map[string]spread{}
	for key := range of[0] {
		a, oka := column(of, key)
		b, okb := column(to, key)
		if !oka || !okb || slices.Contains(b, 0) {
			continue
		}
		values := make([]float64, len(a))
		for i := range a {
			values[i] = a[i] / b[i]
		}
		out[key] = spreadOf(values)
	}
	return out
}

// rank is the smallest of sorted values that at least a share q of them do not exceed.
func rank(sorted []float64, q float64) float64 {
	return sorted[max(int(math.Ceil(q*float64(len(sorted))))-1, 0)]
}
