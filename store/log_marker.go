package store

import (
	"encoding/binary"
	"fmt"
)

// Bounds of a marker's parts, for decoding.
const (
	maxMarkerConfiguration = 1 << 20
	maxMarkerPayload       = 1 << 20
)

const markerVersion = 1

// AppendBinary appends the marker's encoding:
//
//	version u8 = 1 | index uvarint | term uvarint | configuration index uvarint |
//	configuration length uvarint | configuration | payload length uvarint | payload
func (m Marker) AppendBinary(b []byte) []byte {
	b = append(b, markerVersion)
	b = binary.AppendUvarint(b, m.Index)
	b = binary.AppendUvarint(b, m.Term)
	b = binary.AppendUvarint(b, m.ConfigurationIndex)
	b = appendLengthed(b, m.Configuration)
	return appendLengthed(b, m.Payload)
}

// DecodeMarker is the inverse of AppendBinary; it returns what follows the marker. The marker's slices alias b.
func DecodeMarker(b []byte) (m Marker, rest []byte, err error) {
	r := reader{b: b}
	m = r.marker()
	if r.err != nil {
		return Marker{}, nil, r.err
	}
	return m, r.b, nil
}

func (r *reader) marker() Marker {
	if v := r.byte(); r.err == nil && v != markerVersion {
		r.fail(fmt.Sprintf("marker version %d", v))
	}
	m := Marker{Index: r.uvarint(), Term: r.uvarint(), ConfigurationIndex: r.uvarint()}
	m.Configuration = r.lengthed(maxMarkerConfiguration)
	m.Payload = r.lengthed(maxMarkerPayload)
	if r.err == nil {
		if err := m.validate(); err != nil {
			r.fail(err.Error())
		}
	}
	return m
}

// validate refuses what DecodeMarker would not read back.
func (m Marker) validate() error {
	switch {
	case m.Index == 0 || m.Term == 0:
		return fmt.Errorf("marker at index %d, term %d", m.Index, m.Term)
	case m.ConfigurationIndex > m.Index:
		return fmt.Errorf("marker at %d with the configuration of %d", m.Index, m.ConfigurationIndex)
	case len(m.Configuration) > maxMarkerConfiguration:
		return fmt.Errorf("marker at %d: configuration of %d bytes", m.Index, len(m.Configuration))
	case len(m.Payload) > maxMarkerPayload:
		return fmt.Errorf("marker at %d: payload of %d bytes", m.Index, len(m.Payload))
	}
	return nil
}
