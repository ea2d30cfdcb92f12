package storage

import (
	"strings"
	"testing"

	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/stretchr/testify/require"
)

func TestArgumentsAreCheckedWithoutACluster(t *testing.T) {
	tests := []struct{ module, src, want string }{
		{"storage", `id = "nas"`, "a storage needs a type"},
		{"storage", "type = \"nfs\"\nserver = \"192.0.2.9\"", "a storage of type nfs needs export"},
		{"storage", "type = \"dir\"\npath = \"/srv\"\nserver = \"192.0.2.9\"", "a storage of type dir has no server"},
		{"storage", "type = \"zfspool\"\npool = \"tank\"\ncontent = [\"backup\"]", "a storage of type zfspool cannot hold backup; it can hold images, rootdir"},
		{"storage", "type = \"dir\"\npath = \"/srv\"\ncontent = []", "content is empty"},
		{"storage", "type = \"pbs\"\nserver = \"a\"\ndatastore = \"b\"\npassword = secret.x", "a password needs a user"},
		{"storage", "type = \"dir\"\npath = \"/srv\"\noptions = { password = \"x\" }", "password is a secret"},
		{"storage", "type = \"dir\"\npath = \"/srv\"\nremove = [\"path\"]", "path is both wanted and to be removed"},
		{"storage", "type = \"dir\"\npath = \"/srv\"\noptions = { path = \"/x\" }", "path is given as an attribute of its own too"},
		{"storage", "type = \"dir\"\npath = \"/srv\"\nid = \"9x\"", "a letter first"},
		{"replication", "guest = 100\ntarget = \"pve2\"\nrate = 5\nremove = [\"rate\"]", "rate is both wanted and to be removed"},
		{"replication", "guest = 99\ntarget = \"pve2\"", "100"},
		{"backup_job", "storage = \"nas\"\nall = true", "a backup job needs a schedule"},
		{"backup_job", "schedule = \"02:30\"\nstorage = \"nas\"", "say which guests are backed up"},
		{"backup_job", "schedule = \"02:30\"\nstorage = \"nas\"\nall = true\nguests = [100]", "exclude each other"},
		{"backup_job", "schedule = \"02:30\"\nstorage = \"nas\"\nguests = [100]\nexclude = [101]", "need not be excluded"},
		{"backup_job", "id = \"a b\"\nschedule = \"02:30\"\nstorage = \"nas\"\nall = true", "is no name for a job"},
	}
	for _, tt := range tests {
		t.Run(tt.want, func(t *testing.T) {
			for _, m := range All() {
				if m.Spec().Name == tt.module {
					_, problems := testkit.TryArgs(t, m, tt.src)
					require.Contains(t, strings.Join(problems, "\n"), tt.want)
				}
			}
		})
	}
}
