package adamant

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/mesh"
)

func TestOptionsDefaults(t *testing.T) {
	o, err := Options{Dir: "d"}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if o.Host != "local" || o.Partitions != 8 || o.Log != LogPebble || o.Consistency != ReadLease {
		t.Errorf("%+v", o)
	}
	if o.Timing.Election != o.Timing.Heartbeat || o.Timing.Grace != 5*o.Timing.Heartbeat || o.Logger == nil || o.FS == nil || o.Events.Failed == nil {
		t.Errorf("%+v", o)
	}
	o, err = Options{Dir: "d", Limits: Limits{DocumentBytes: 1000}}.withDefaults()
	if err != nil || o.Limits.CommandBytes != 1000 || o.Limits.DeltaBytes != 1000 {
		t.Errorf("smaller limits must follow a small document limit: %+v, %v", o.Limits, err)
	}
}

// Validation reports everything at once.
func TestOptionsReportEveryProblem(t *testing.T) {
	err := Options{
		ClusterFile: "f", Cluster: &config.Cluster{}, Partitions: 3, Log: 9, Consistency: 9, CacheBytes: -1, HeadCache: -1,
		Limits: Limits{DeltaBytes: 9 << 20, CommandBytes: 8 << 20, DocumentBytes: 1 << 20, RequestBytes: 7 << 20, InFlight: 1000, InFlightBytes: 2000, HostInFlightBytes: 1000, TrailingLogs: 10},
		Timing: Timing{Heartbeat: time.Millisecond, Lease: time.Second, ClockDrift: 2, Poll: -1},
		Repair: Repair{BytesPerSecond: -1, MemoryBytes: -1},
	}.Validate()
	var invalid *OptionsError
	if !errors.As(err, &invalid) || Code(err) != CodeOptions {
		t.Fatal(err)
	}
	for _, want := range []string{"Dir is empty", "exclude each other", "Host is empty", "Partitions is 3", "Cluster: ", "Log is log(9)",
		"Consistency is consistency(9)", "CacheBytes", "HeadCache", "Limits.DeltaBytes is 9437184", "Limits.CommandBytes is 8388608", "Limits.RequestBytes is 7340032", "Limits.InFlight is 1000", "Limits.InFlightBytes is 2000, more than HostInFlightBytes 1000",
		"Limits.TrailingLogs is 10", "Timing.Heartbeat is 1ms", "Timing.ClockDrift is 2", "Timing.Poll", "Timing.Lease is 1s", "Repair.BytesPerSecond", "Repair.MemoryBytes"} {
		found := false
		for _, p := range invalid.Problems {
			found = found || strings.HasPrefix(p, want) || strings.Contains(p, want)
		}
		if !found {
			t.Errorf("no problem %q among %q", want, invalid.Problems)
		}
	}
}

func TestOptionsProblemsOneByOne(t *testing.T) {
	cluster, err := config.Generate(config.Spec{Cluster: "c", Partitions: 1, Hosts: map[string]config.Host{"h1": {Addr: "127.0.0.1:1"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		o    Options
		says string // "" when valid
	}{
		{"directory only", Options{Dir: "d"}, ""},
		{"cluster", Options{Dir: "d", Cluster: cluster, Host: "h1"}, ""},
		{"cluster file", Options{Dir: "d", ClusterFile: "f", Host: "h1"}, ""},
		{"foreign host", Options{Dir: "d", Cluster: cluster, Host: "h9"}, `no host is named "h9"`},
		{"network without a cluster", Options{Dir: "d", Network: func(mesh.Identity) mesh.Network { return nil }}, "no network"},
		{"too many partitions", Options{Dir: "d", Partitions: 1 << 20}, "Partitions is 1048576"},
		{"negative partitions", Options{Dir: "d", Partitions: -1}, "Partitions is -1"},
		{"election before heartbeat", Options{Dir: "d", Timing: Timing{Heartbeat: time.Second, Election: time.Millisecond * 100, Lease: time.Second}}, "Election"},
	} {
		err := tc.o.Validate()
		if tc.says == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestNamesRoundTrip(t *testing.T) {
	for _, c := range []Consistency{ReadLease, ReadQuorum, ReadStale} {
		if got, err := ParseConsistency(c.String()); err != nil || got != c {
			t.Errorf("%v: %v, %v", c, got, err)
		}
	}
	for _, k := range []LogKind{LogPebble, LogBolt} {
		if got, err := ParseLogKind(k.String()); err != nil || got != k {
			t.Errorf("%v: %v, %v", k, got, err)
		}
	}
	if _, err := ParseConsistency("strong"); err == nil {
		t.Error("an unknown consistency")
	}
	if _, err := ParseLogKind("wal"); err == nil {
		t.Error("an unknown log")
	}
}

func TestLastReadOptionWins(t *testing.T) {
	if s := resolveRead(ReadQuorum, nil); s.consistency != ReadQuorum {
		t.Error(s)
	}
	if s := resolveRead(ReadQuorum, []ReadOption{WithConsistency(ReadStale), {}, WithConsistency(ReadLease), {}}); s.consistency != ReadLease {
		t.Error(s)
	}
}

func TestInFlightByDefault(t *testing.T) {
	for _, c := range []struct {
		trailing   uint64
		partitions int
		want       int
	}{{0, 1, 512}, {0, 8, 512}, {0, 32, 128}, {0, 1000, 64}, {512, 1, 256}, {129, 1, 64}} {
		o, err := Options{Dir: "d", Limits: Limits{TrailingLogs: c.trailing}}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		if got := o.Limits.partition(c.partitions).InFlight; got != c.want {
			t.Errorf("%d trailing, %d partitions: %d in flight, want %d", c.trailing, c.partitions, got, c.want)
		}
	}
	if _, err := (Options{Dir: "d", Limits: Limits{TrailingLogs: 127}}).withDefaults(); err == nil || !strings.Contains(err.Error(), "Limits.TrailingLogs is 127") {
		t.Errorf("127 trailing: %v", err)
	}
}

func TestBytesInFlightByDefault(t *testing.T) {
	const mega = 1 << 20
	for _, c := range []struct{ own, host, wantOwn, wantHost int64 }{
		{0, 0, 64 * mega, 256 * mega}, {512 * mega, 0, 512 * mega, 512 * mega}, {0, 10 * mega, 10 * mega, 10 * mega}, {5, 6, 5, 6},
	} {
		o, err := Options{Dir: "d", Limits: Limits{InFlightBytes: c.own, HostInFlightBytes: c.host}}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		if own, host := o.Limits.partition(8).InFlightBytes, o.Limits.HostInFlightBytes; own != c.wantOwn || host != c.wantHost {
			t.Errorf("%d and %d were set: %d and %d are in flight, want %d and %d", c.own, c.host, own, host, c.wantOwn, c.wantHost)
		}
	}
	for _, l := range []Limits{{InFlightBytes: -1}, {HostInFlightBytes: -1}, {InFlightBytes: 1<<40 + 1}} {
		if err := (Options{Dir: "d", Limits: l}).Validate(); err == nil || !strings.Contains(err.Error(), "InFlightBytes is ") {
			t.Errorf("%+v: %v", l, err)
		}
	}
}
