package jsonmerge

// node is one value: an object, or the text of anything else. Exactly one of
// the fields is set.
type node struct {
	leaf   string
	object *object
}

func (n node) isNull() bool { return n.leaf == "null" }

// object holds members in the order of their first insertion.
//
// Invariants: names of live members differ; index, once made, maps each of them
// to its place; dead counts the members removed but still in the slice, which
// are those whose node is zero.
type object struct {
	members []member
	index   map[string]int // nil while members are few
	dead    int
}

// member is one name and its value.
type member struct {
	name  string // decoded: what makes two names equal
	raw   string // quoted, as first written
	value node
}

func (m *member) live() bool { return m.value != node{} }

// indexFrom is the number of members from which a map beats looking at each.
const indexFrom = 12

// find is the value of the member called name, nil when there is none. The
// pointer holds until the next put or remove.
func (o *object) find(name string) *node {
	if i := o.place(name); i >= 0 {
		return &o.members[i].value
	}
	return nil
}

func (o *object) place(name string) int {
	if o.index != nil {
		if i, ok := o.index[name]; ok {
			return i
		}
		return -1
	}
	for i := range o.members {
		if o.members[i].name == name && o.members[i].live() {
			return i
		}
	}
	return -1
}

// put sets the member of m's name to m's value, at its present place if it has
// one.
func (o *object) put(m member) {
	if v := o.find(m.name); v != nil {
		*v = m.value
		return
	}
	o.members = append(o.members, m)
	switch {
	case o.index != nil:
		o.index[m.name] = len(o.members) - 1
	case len(o.members) >= indexFrom:
		o.reindex()
	}
}

func (o *object) remove(name string) {
	i := o.place(name)
	if i < 0 {
		return
	}
	o.members[i] = member{}
	if o.index != nil {
		delete(o.index, name)
	}
	// Dead members are cleared out when they are the majority, so that
	// removing costs a constant each and the slice stays within twice the
	// live ones.
	if o.dead++; o.dead > len(o.members)/2 {
		o.filter((*member).live)
	}
}

// filter keeps the members of which keep says so, in order.
func (o *object) filter(keep func(*member) bool) {
	kept := o.members[:0]
	for i := range o.members {
		if m := &o.members[i]; keep(m) {
			kept = append(kept, *m)
		}
	}
	clear(o.members[len(kept):])
	o.members, o.dead, o.index = kept, 0, nil
	if len(kept) >= indexFrom {
		o.reindex()
	}
}

func (o *object) reindex() {
	o.index = make(map[string]int, 2*len(o.members))
	for i := range o.members {
		if m := &o.members[i]; m.live() {
			o.index[m.name] = i
		}
	}
}

// appendTo appends the value's text to b.
func (n node) appendTo(b []byte) []byte {
	if n.object == nil {
		return append(b, n.leaf...)
	}
	b = append(b, '{')
	first := true
	for i := range n.object.members {
		m := &n.object.members[i]
		if !m.live() {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, m.raw...)
		b = append(b, ':')
		b = m.value.appendTo(b)
	}
	return append(b, '}')
}
