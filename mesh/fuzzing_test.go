package mesh

import (
	"testing"

	"github.com/adamantdb/adamant/internal/fuzzing"
)

func TestFuzzTargetsForAMoment(t *testing.T) { fuzzing.Moment(t) }
