package cli

import (
	"testing"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/health"
	"github.com/stretchr/testify/require"
)

func TestTheExitStatusOfStatusTellsWhatIsLeft(t *testing.T) {
	finding := func(check string, severity pve.Severity) []pve.Finding {
		return []pve.Finding{{Check: check, Severity: severity}}
	}
	up, down := []pve.NodeReport{{Name: "pve1"}, {Name: "pve2", Error: "no route"}}, []pve.NodeReport{{Name: "pve1", Error: "no route"}}
	tests := []struct {
		name  string
		nodes []pve.NodeReport
		found []pve.Finding
		left  []event.Pending
		code  int
	}{
		{name: "all is well", nodes: up, code: 0},
		{name: "a warning", nodes: up, found: finding("time", pve.Warning), code: 0},
		{name: "a node in maintenance", nodes: up, found: finding("maintenance", pve.Warning), code: 7},
		{name: "a node out of service", nodes: up, found: finding("service", pve.Warning), code: 7},
		{name: "a temporary change", nodes: up, left: []event.Pending{{ID: "pve1/maintenance"}}, code: 7},
		{name: "something does not work either", nodes: up, found: append(finding("service", pve.Warning), finding("quorum", pve.Critical)...), code: 1},
		{name: "nobody answers", nodes: down, left: []event.Pending{{ID: "pve1/maintenance"}}, code: 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.code, statusCode(health.Report{Report: pve.Report{Nodes: tt.nodes, Findings: tt.found}}, tt.left))
		})
	}
}
