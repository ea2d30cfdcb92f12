package cli

import (
	"strings"
	"testing"

	"github.com/pxrun/pxrun/inventory"
	"github.com/stretchr/testify/require"
)

func TestSelectHosts(t *testing.T) {
	site := &inventory.Site{
		Hosts:    []inventory.Host{{Name: "pve1"}, {Name: "pve2"}, {Name: "pve3"}, {Name: "arbiter"}, {Name: "web1"}},
		Clusters: []*inventory.Cluster{{Name: "lab", Nodes: []string{"pve1", "pve2", "pve3"}}},
		Groups:   []inventory.Group{{Name: "edge", Hosts: []string{"web1", "arbiter"}}},
	}
	tests := map[string]struct{ patterns, want string }{
		"one host":           {"pve2", "pve2"},
		"a pattern":          {"pve*", "pve1 pve2 pve3"},
		"the site's order":   {"web1,pve1", "pve1 web1"},
		"a cluster":          {"lab", "pve1 pve2 pve3"},
		"a group":            {"edge", "arbiter web1"},
		"all but one":        {"!pve3", "pve1 pve2 arbiter web1"},
		"a cluster but one":  {"lab !pve[12]", "pve3"},
		"a host only once":   {"lab pve1 all", "pve1 pve2 pve3 arbiter web1"},
		"nothing left":       {"pve1 !lab", "error: leaves no host"},
		"a slip of the hand": {"pve4", `error: Did you mean "pve1"?`},
		"no pattern":         {"[", "error: not a pattern"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := selectHosts(site, strings.Fields(test.patterns))
			if text, wrong := strings.CutPrefix(test.want, "error: "); wrong {
				require.ErrorContains(t, err, text)
				require.Equal(t, exitInvalid, exitCode(err))
				return
			}
			require.NoError(t, err)
			require.Equal(t, strings.Fields(test.want), got)
		})
	}
}
