package module_test

import (
	"testing"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/stretchr/testify/require"
)

func TestWhatAGateSawStandsBelowItsWord(t *testing.T) {
	r := &module.Refusal{Host: "pve1", Gate: "join", Saw: "two things:\nguests\na key\n", Want: "neither", Look: "qm list"}
	require.Equal(t, "pve1: refused: join\n  saw: two things:\n    guests\n    a key\n  wanted: neither\n  look: qm list", r.Error())
}
