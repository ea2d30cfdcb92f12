package system

import (
	"testing"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/stretchr/testify/require"
)

// A mirror's password stands in the file and in no plan.
func TestLoginsOfRepositoriesAreNotShown(t *testing.T) {
	before := pve.SourceFiles{"/etc/apt/sources.list": "deb https://ann:hunter2@mirror.example.org/debian trixie main\n"}
	after := pve.SourceFiles{"/etc/apt/sources.list": "# deb https://ann:hunter2@mirror.example.org/debian trixie main\n"}
	changes := fileChanges("pve1", before, after)
	require.Len(t, changes, 1)
	require.Equal(t, "deb https://(secret)@mirror.example.org/debian trixie main\n", changes[0].Before)
	require.Equal(t, "# deb https://(secret)@mirror.example.org/debian trixie main\n", changes[0].After)
}
