package diag_test

import (
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/stretchr/testify/require"
)

func at(file string, b int) diag.Range {
	return diag.Range{Filename: file, Start: hcl.Pos{Line: 1, Column: 1, Byte: b}, End: hcl.Pos{Line: 1, Column: 2, Byte: b + 1}}
}

func TestSortOrdersByPlaceAndDropsRepetitions(t *testing.T) {
	var l diag.List
	l = append(l, diag.Error("c", "later", at("b.hcl", 1))...)
	l = append(l, diag.Error("b", "second", at("a.hcl", 9))...)
	l = append(l, diag.Warning("a", "first", at("a.hcl", 2))...)
	l = append(l, diag.Error("b", "second", at("a.hcl", 9))...)
	l = append(l, diag.Error("z", "nowhere", diag.Range{})...)
	sorted := diag.Sort(l)
	var got []string
	for _, d := range sorted {
		got = append(got, d.Summary)
	}
	require.Equal(t, []string{"z", "a", "b", "c"}, got)
	require.Nil(t, sorted[0].Subject, "a problem without a place has none")
	require.Len(t, l, 5, "the list that was given is left alone")
	require.True(t, sorted.HasErrors())
	require.False(t, diag.Warning("a", "b", at("x", 1)).HasErrors())
}
