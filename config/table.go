package config

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// String returns what Write writes.
func (f Figures) String() string {
	var b strings.Builder
	_ = f.Write(&b) // a strings.Builder does not fail
	return b.String()
}

// Write writes the figures as tables for people.
func (f Figures) Write(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	f.summary(out)
	f.hosts(out)
	f.losses(out)
	return out.Flush()
}

// summary writes the ranges over all hosts. Errors of the writer surface in Flush, here and below.
func (f Figures) summary(w io.Writer) {
	fmt.Fprintf(w, "cluster %s, version %d: %s in %s\n", f.Cluster, f.Version, plural(len(f.Hosts), "host"), plural(f.Zones, "zone"))
	for _, g := range f.Groups {
		fmt.Fprintf(w, "%s of %s", plural(g.Partitions, "partition"), plural(g.Voters, "voter"))
		if g.Replicas > 0 {
			fmt.Fprintf(w, " and %s", plural(g.Replicas, "replica"))
		}
		fmt.Fprintln(w)
	}
	switch {
	case f.Crowded > 0:
		fmt.Fprintf(w, "zone spread: %s with more voters in one zone than necessary\n", plural(f.Crowded, "partition"))
	default:
		fmt.Fprintln(w, "zone spread: as good as the zones permit")
	}
	if f.Undirected > 0 {
		fmt.Fprintf(w, "no preferred leader: %s\n", plural(f.Undirected, "partition"))
	}
	fmt.Fprintln(w, "\nper host\tmin\tmax\t")
	for _, row := range []struct {
		name string
		Range
	}{{"members", f.Members}, {"voters", f.Voters}, {"leaders", f.Leaders}, {"links", f.Links}} {
		fmt.Fprintf(w, "%s\t%d\t%d\t\n", row.name, row.Min, row.Max)
	}
}

// hosts writes a line per host. The last columns say what each of the survivors that can have a share gets when the
// host dies, and how many survivors have one.
func (f Figures) hosts(w io.Writer) {
	fmt.Fprintln(w, "\nhost\tzone\tmembers\tvoters\tleaders\tlinks\tif lost: members shared\tby\tleaders taken over\tby\t")
	for _, h := range f.Hosts {
		zone := h.Zone
		if zone == "" {
			zone = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t\n", h.Name, zone, h.Members, h.Voters, h.Leaders, h.Links,
			h.Shared.Range, h.Shared.by(), h.Heirs.Range, h.Heirs.by())
	}
	fmt.Fprintln(w, "\"taken over\": partitions led by the host in which a survivor votes, and so may follow it as leader")
}

// losses writes what simultaneous failures cost.
func (f Figures) losses(w io.Writer) {
	fmt.Fprintln(w, "\nrandom hosts failing at once\tsome majority lost\tsome partition lost\t\t")
	for _, l := range f.Losses {
		how := fmt.Sprintf("all %d sets of hosts", l.Sets)
		if !l.Exact {
			how = fmt.Sprintf("sample of %d sets", l.Sets)
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t\n", l.Failures, percent(l.Majority), percent(l.AllCopies), how)
	}
	if len(f.ByZone) == 0 {
		return
	}
	fmt.Fprintln(w, "\nzone failing\thosts\tmajorities lost\tpartitions lost\t")
	for _, z := range f.ByZone {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t\n", z.Zone, z.Hosts, z.Majority, z.AllCopies)
	}
}

func (r Range) String() string {
	if r.Min == r.Max {
		return fmt.Sprint(r.Min)
	}
	return fmt.Sprintf("%d–%d", r.Min, r.Max)
}

// by says how many survivors have a share, of those that can.
func (s Spread) by() string {
	if s.Sharing == s.Eligible {
		return fmt.Sprint(s.Eligible)
	}
	return fmt.Sprintf("%d of %d", s.Sharing, s.Eligible)
}

func percent(p float64) string {
	switch {
	case p == 0:
		return "0 %"
	case p < 0.001:
		return fmt.Sprintf("%.2g %%", 100*p)
	}
	return fmt.Sprintf("%.1f %%", 100*p)
}

// plural counts things.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
