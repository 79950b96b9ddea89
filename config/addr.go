package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// address is a host:port that was checked without asking any resolver.
type address struct {
	canonical string // equal for spellings of one address
	loopback  bool
}

// parseAddr checks an address that other hosts are to dial.
func parseAddr(s string) (address, error) {
	if s == "" {
		return address{}, fmt.Errorf("must be host:port")
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return address{}, fmt.Errorf("%s must be host:port", quote(s))
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return address{}, fmt.Errorf("%s must have a port from 1 to 65535", quote(s))
	}
	ip, err := netip.ParseAddr(host)
	if err == nil {
		ip = ip.Unmap()
		if ip.IsUnspecified() || ip.IsMulticast() {
			return address{}, fmt.Errorf("%s is not an address that other hosts can dial", quote(s))
		}
	} else {
		if reason := hostNameProblem(host); reason != "" {
			return address{}, fmt.Errorf("%s %s", quote(s), reason)
		}
		host = strings.ToLower(strings.TrimSuffix(host, "."))
		if host != "localhost" {
			return address{canonical: fmt.Sprintf("%s:%d", host, number)}, nil
		}
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return address{canonical: netip.AddrPortFrom(ip, uint16(number)).String(), loopback: ip.IsLoopback()}, nil
}

// hostNameProblem returns what is wrong with a DNS name, "" if nothing.
func hostNameProblem(host string) string {
	trimmed := strings.TrimSuffix(host, ".")
	if trimmed == "" || len(trimmed) > 253 {
		return "has no host name of 1 to 253 characters"
	}
	labels := strings.Split(trimmed, ".")
	for _, label := range labels {
		ok := label != "" && len(label) <= 63 && label[0] != '-' && label[len(label)-1] != '-'
		for i := range len(label) {
			ok = ok && (isAlphanumeric(label[i]) || label[i] == '-' || label[i] == '_')
		}
		if !ok {
			return "has a malformed host name"
		}
	}
	// A last label of digits is no top-level domain but an IPv4 address with a mistake.
	if last := labels[len(labels)-1]; digits(last) == len(last) {
		return "has a malformed IP address"
	}
	return ""
}
