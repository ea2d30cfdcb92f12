package module_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
)

func TestAnUndoIsStoredWithAllThatRepeatsIt(t *testing.T) {
	undo := module.Undo{Host: "pve3", Summary: "leave maintenance mode on pve3", Command: transport.Command{
		Argv: []string{"pve3"}, Script: `ha-manager crm-command node-maintenance disable "$1"`, Stdin: []byte("y\n"), Timeout: time.Minute, Mutates: true,
	}}
	change := module.Change{ID: "pve3/maintenance", Host: "pve3", Undo: &undo}
	data, err := json.Marshal(change)
	require.NoError(t, err)
	var back module.Change
	require.NoError(t, json.Unmarshal(data, &back))
	if diff := cmp.Diff(undo, *back.Undo); diff != "" {
		t.Error(diff)
	}
}

func TestAStoredUndoMutatesWhateverItSays(t *testing.T) {
	var undo module.Undo
	require.NoError(t, json.Unmarshal([]byte(`{"host":"pve3","argv":["true"]}`), &undo))
	require.True(t, undo.Command.Mutates)
	require.Error(t, json.Unmarshal([]byte(`{"argv":"rm -rf"}`), &undo))
}

func TestARegistryIsAValue(t *testing.T) {
	type none struct{}
	define := func(name string) module.Module {
		return module.Define(module.Spec{Name: name}, module.Funcs[none, none]{})
	}
	r := module.NewRegistry(define("b"), define("a"))
	require.Equal(t, []string{"a", "b"}, r.Names())
	_, ok := r.Get("c")
	require.False(t, ok)
	require.Panics(t, func() { module.NewRegistry(define("a"), define("a")) })
}
