package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// variant is one of the configurations that a run compares; without a comparison there is one, without a name.
type variant struct {
	name     string // "log=bolt"
	settings settings
}

const maxVariants = 8

// variants makes the configurations that "NAME=VALUE,VALUE…" asks for out of the common one. Anything a flag of the
// workload can set can be compared. Flag is the one that asks, for errors.
func variants(common settings, flags func(*settings, *pflag.FlagSet), flag, compare string) ([]variant, error) {
	if compare == "" {
		if err := common.check(); err != nil {
			return nil, usageError{err}
		}
		return []variant{{settings: common}}, nil
	}
	name, list, ok := strings.Cut(compare, "=")
	if !ok {
		return nil, usageError{fmt.Errorf("%s is %q: want NAME=VALUE,VALUE, such as log=pebble,bolt", flag, compare)}
	}
	name = settingName(name)
	values := strings.Split(list, ",")
	if len(values) < 2 || len(values) > maxVariants {
		return nil, usageError{fmt.Errorf("%s %s: want 2 to %d values, got %d", flag, name, maxVariants, len(values))}
	}
	var all []variant
	for i, value := range values {
		if slices.Contains(values[:i], value) {
			return nil, usageError{fmt.Errorf("%s %s: %q is named twice", flag, name, value)}
		}
		s := common
		f := pflag.NewFlagSet("", pflag.ContinueOnError)
		flags(&s, f)
		if f.Lookup(name) == nil {
			return nil, usageError{fmt.Errorf("%s: %q cannot be compared, only %s", flag, name, strings.Join(names(f), ", "))}
		}
		if err := f.Set(name, value); err != nil {
			return nil, usageError{fmt.Errorf("%s: %w", flag, err)}
		}
		if err := s.check(); err != nil {
			return nil, usageError{fmt.Errorf("%s %s=%s: %w", flag, name, value, err)}
		}
		all = append(all, variant{name: name + "=" + value, settings: s})
	}
	return all, nil
}

func names(f *pflag.FlagSet) []string {
	var list []string
	f.VisitAll(func(flag *pflag.Flag) { list = append(list, flag.Name) })
	return list
}
