package jsonmerge

// merge is MergePatch of RFC 7396 section 2, and its counterpart for patches:
// the target with the patch merged in. Both arguments are used up.
func merge(target, patch node, mode Mode) node {
	if patch.object == nil {
		return patch
	}
	if target.object == nil {
		// The target counts as {}. What a Document gets is then the patch
		// without the nulls that found nothing to remove; in a Patch they
		// still have to remove at the receiver.
		if mode == Document {
			stripNulls(patch.object)
		}
		return patch
	}
	t := target.object
	for _, m := range patch.object.members {
		old := t.find(m.name)
		switch {
		case mode == Document && m.value.isNull():
			t.remove(m.name)
		case old != nil:
			*old = merge(*old, m.value, mode)
		default:
			m.value = merge(node{}, m.value, mode)
			t.put(m)
		}
	}
	return target
}

// stripNulls removes the null members of o and of the objects in it.
func stripNulls(o *object) {
	nulls := false
	for i := range o.members {
		v := &o.members[i].value
		switch {
		case v.object != nil:
			stripNulls(v.object)
		case v.isNull():
			nulls = true
		}
	}
	if nulls {
		o.filter(func(m *member) bool { return !m.value.isNull() })
	}
}
