package main

import "slices"

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

// median is the middle value, or the mean of the two in the middle. It wants at least one value.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}

// ratios divides round by round what both have. No value is zero, and both have the same rounds.
func ratios(of, to map[string]spread) map[string]spread {
	out := map[string]spread{}
	for key, a := range of {
		b, ok := to[key]
		if !ok {
			continue
		}
		values := make([]float64, len(a.Rounds))
		for i := range values {
			values[i] = a.Rounds[i] / b.Rounds[i]
		}
		out[key] = spreadOf(values)
	}
	return out
}
