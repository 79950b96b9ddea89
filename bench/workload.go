package main

import (
	"context"
	"time"

	"github.com/spf13/pflag"
)

// workload is one verb: what can be set, what is measured, and how it is measured once.
type workload struct {
	verb, short, long, example string

	defaults settings
	protocol protocol // defaults of it
	flags    func(*settings, *pflag.FlagSet)
	vary     *axis // set if its runs always compare values of one setting
	metrics  []metric
	measure  func(context.Context, trial) (figures, error)
}

func workloads() []workload {
	return []workload{writeWorkload(), idleWorkload(), failoverWorkload(), quietWorkload(), repairWorkload(), healthyWorkload(), scaleWorkload()}
}

// trial is one measurement of one variant.
type trial struct {
	settings settings
	dir      string // empty, removed afterwards
	warmup   time.Duration
	duration time.Duration
	seed     uint64
	tell     func(note string, measured time.Duration) // shows what goes on, and how much of warmup and duration is over
}

// metric describes a figure. The table shows it under its label, multiplied by scale.
type metric struct {
	key   string // in JSON
	label string
	scale float64
}

// figures are what a trial measured, by the metric's key. A figure that could not be measured is absent.
type figures map[string]float64
