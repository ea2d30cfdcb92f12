package system_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
)

// debian puts fakes of apt and dpkg in front of the real ones. Their database is a directory with one file for each
// package, holding its version; "repo" is what apt could install.
func debian(t *testing.T, l *testkit.Local, installed, repo map[string]string) (root string) {
	t.Helper()
	root = t.TempDir()
	for dir, files := range map[string]map[string]string{"db": installed, "repo": repo} {
		require.NoError(t, os.Mkdir(filepath.Join(root, dir), 0o755))
		for name, version := range files {
			require.NoError(t, os.WriteFile(filepath.Join(root, dir, name), []byte(version), 0o600))
		}
	}
	require.NoError(t, os.WriteFile(filepath.Join(root, "age"), []byte("10"), 0o600))
	l.Program(t, "dpkg-query", fmt.Sprintf(`shift 2; for p in "$@"; do
		if [ -e %[1]s/db/$p ]; then echo "installed $p $(cat %[1]s/db/$p)"; else echo "dpkg-query: no packages found matching $p" >&2; r=1; fi
	done; exit ${r:-0}`, root))
	l.Program(t, "apt-cache", fmt.Sprintf(`shift; for p in "$@"; do [ -e %[1]s/repo/$p ] || continue
		echo "$p:"; echo "  Installed: $(cat %[1]s/db/$p 2>/dev/null || echo '(none)')"; echo "  Candidate: $(cat %[1]s/repo/$p)"; done`, root))
	l.Program(t, "date", "echo 1000000")
	l.Program(t, "stat", fmt.Sprintf(`case $3 in
		/var/lib/apt/lists) echo $((1000000 - $(cat %[1]s/age))) ;;
		/etc/apt/*) cat %[1]s/sources 2>/dev/null ;; # when the repositories were changed
		*) exec /usr/bin/stat "$@" ;;
	esac`, root))
	l.Program(t, "touch", fmt.Sprintf("case $* in *@0*) echo 1000000 ;; *) echo 0 ;; esac >%s/age", root))
	l.Program(t, "apt-get", fmt.Sprintf(`cd %s
		echo "$DEBIAN_FRONTEND $*" >>log
		sim=
		while [ $# -gt 0 ]; do case $1 in -s) sim=1;; -o) shift;; -*) ;; *) break;; esac; shift; done
		verb=$1; shift
		[ "$verb" = update ] && { [ -e away ] && exit 100; [ -e new ] && cp new/* repo/; exit 0; }
		for p in "$@"; do
			if [ "$verb" = install ]; then
				[ -e repo/$p ] || { echo "E: Unable to locate package $p"; exit 100; }
				if [ -e db/$p ]; then [ "$(cat db/$p)" = "$(cat repo/$p)" ] && continue; old=" [$(cat db/$p)]"; else old=; fi
				[ "$sim" ] && echo "Inst $p$old ($(cat repo/$p) Debian:13 [amd64])" || cp repo/$p db/$p
			else
				[ "$sim" ] && echo "Remv $p [$(cat db/$p)]" || rm db/$p
			fi
			[ "$sim" ] && [ -e also ] && cat also
		done; exit 0`, root))
	return root
}

func TestPackage(t *testing.T) {
	for _, tt := range []struct {
		name            string
		installed, repo map[string]string
		args            string
		plan            []string
		shown           string
	}{
		{"there", map[string]string{"curl": "1"}, nil, `names = ["curl"]`, nil, ""},
		{"missing", map[string]string{"curl": "1"}, map[string]string{"jq": "2"}, `names = ["curl", "jq"]`, []string{"install jq"}, `{"jq":null} {"jq":"2"}`},
		{"older than the newest", map[string]string{"curl": "1"}, map[string]string{"curl": "2"}, `names = ["curl"]`, nil, ""},
		{"newest wanted", map[string]string{"curl": "1"}, map[string]string{"curl": "2"}, "names = [\"curl\"]\nstate = \"latest\"", []string{"bring to the newest version: curl"}, `{"curl":"1"} {"curl":"2"}`},
		{"newest there", map[string]string{"curl": "2"}, map[string]string{"curl": "2"}, "names = [\"curl\"]\nstate = \"latest\"", nil, ""},
		{"absent", map[string]string{"curl": "1"}, nil, "names = [\"curl\", \"jq\"]\nstate = \"absent\"", []string{"remove curl"}, `{"curl":"1"} {"curl":null}`},
		{"absent already", nil, nil, "names = [\"curl\"]\nstate = \"absent\"", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			target, l := local(t)
			debian(t, l, tt.installed, tt.repo)
			changes := testkit.Converge(t, get(t, "package"), target, tt.args)
			require.ElementsMatch(t, tt.plan, testkit.Summaries(changes))
			if len(changes) == 1 {
				require.Equal(t, tt.shown, asJSON(t, changes[0].Before)+" "+asJSON(t, changes[0].After))
				require.Len(t, target.Jobs(), 1)
			}
		})
	}
}

func TestPackageThatIsThereTakesOneRead(t *testing.T) {
	target, l := local(t)
	debian(t, l, map[string]string{"curl": "1"}, nil)
	require.Empty(t, testkit.Plan(t, get(t, "package"), target, `names = ["curl"]`))
	require.Len(t, l.Calls(), 1)
}

func TestPackageAptIsCalledAsTheReferenceSays(t *testing.T) {
	target, l := local(t)
	root := debian(t, l, nil, map[string]string{"jq": "1"})
	require.NoError(t, os.WriteFile(filepath.Join(root, "age"), []byte("7200"), 0o600))
	testkit.Converge(t, get(t, "package"), target, `names = ["jq"]`)
	log, err := os.ReadFile(filepath.Join(root, "log"))
	require.NoError(t, err)
	require.Equal(t, strings.Join([]string{
		"noninteractive -s -q -o Debug::NoLocking=1 install jq",
		"noninteractive -q -o DPkg::Lock::Timeout=300 update",
		"noninteractive -s -q -o Debug::NoLocking=1 install jq",
		"noninteractive -y -q -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=300 install jq",
		"",
	}, "\n"), string(log))
}

func TestPackageOldListsMakeTheNewestUnknown(t *testing.T) {
	target, l := local(t)
	root := debian(t, l, map[string]string{"curl": "1"}, map[string]string{"curl": "1"})
	require.NoError(t, os.WriteFile(filepath.Join(root, "age"), []byte("7200"), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(root, "new"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, "new", "curl"), []byte("3"), 0o600))
	changes := testkit.Converge(t, get(t, "package"), target, "names = [\"curl\"]\nstate = \"latest\"")
	require.Equal(t, []string{"refresh the package lists, bring to the newest version: curl"}, testkit.Summaries(changes))
	require.Equal(t, `{"curl":"the newest"}`, asJSON(t, changes[0].After))
	m := get(t, "package")
	out := m.Outputs().Encode(testkit.Read(t, m, target, `names = ["curl"]`))
	require.Equal(t, "3", out.GetAttr("versions").GetAttr("curl").AsString())

	require.NoError(t, os.WriteFile(filepath.Join(root, "age"), []byte("7200"), 0o600))
	require.Empty(t, testkit.Plan(t, m, target, "names = [\"curl\"]\nstate = \"latest\"\nupdate_cache = false"))
}

func TestPackageListsStayOldWhenTheyCannotBeRefreshed(t *testing.T) {
	target, l := local(t)
	root := debian(t, l, nil, map[string]string{"jq": "2"})
	require.NoError(t, os.WriteFile(filepath.Join(root, "age"), []byte("7200"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(root, "away"), nil, 0o600))
	changes := testkit.Plan(t, get(t, "package"), target, `names = ["jq"]`)
	require.ErrorContains(t, testkit.Apply(t.Context(), target, changes), "exit 100")
	require.NoError(t, os.Remove(filepath.Join(root, "away")))
	changes = testkit.Converge(t, get(t, "package"), target, `names = ["jq"]`)
	require.Equal(t, []string{"refresh the package lists, install jq"}, testkit.Summaries(changes))
}

func TestPackageErrorNamesUnmetDependencies(t *testing.T) {
	target, l := local(t)
	debian(t, l, nil, nil)
	l.Program(t, "apt-get", `cat <<-'EOF'
		Reading package lists...
		The following packages have unmet dependencies:
		 jq : Depends: libjq1 (= 2) but it is not installable
		E: Unable to correct problems, you have held broken packages.
	EOF
	exit 100`)
	_, err := testkit.TryPlan(t, get(t, "package"), target, `names = ["jq"]`)
	require.ErrorContains(t, err, "apt-get install: exit 100: jq : Depends: libjq1 (= 2) but it is not installable; Unable to correct")
}

func TestPackageListsAreOldWhenTheRepositoriesAreNewer(t *testing.T) {
	target, l := local(t)
	root := debian(t, l, nil, nil)
	require.NoError(t, os.WriteFile(filepath.Join(root, "sources"), []byte("100\n999995\n200\n"), 0o600)) // the lists are of 999990
	require.NoError(t, os.Mkdir(filepath.Join(root, "new"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, "new", "jq"), []byte("2"), 0o600))
	changes := testkit.Converge(t, get(t, "package"), target, `names = ["jq"]`)
	require.Equal(t, []string{"refresh the package lists, install jq"}, testkit.Summaries(changes))
}

func TestPackageUnknownToAptIsAnErrorUnlessTheListsAreOld(t *testing.T) {
	target, l := local(t)
	root := debian(t, l, nil, nil)
	_, err := testkit.TryPlan(t, get(t, "package"), target, `names = ["nosuch"]`)
	require.ErrorContains(t, err, "apt-get install: exit 100: Unable to locate package nosuch")
	require.NoError(t, os.WriteFile(filepath.Join(root, "age"), []byte("7200"), 0o600))
	changes := testkit.Plan(t, get(t, "package"), target, `names = ["nosuch"]`)
	require.NotEmpty(t, changes[0].Predicted)
	require.ErrorContains(t, testkit.Apply(t.Context(), target, changes), "Unable to locate package nosuch")
}

func TestPackageRefusesToTakeProxmoxApart(t *testing.T) {
	target, l := local(t)
	root := debian(t, l, nil, map[string]string{"exim4": "1"})
	require.NoError(t, os.WriteFile(filepath.Join(root, "also"), []byte("Remv postfix [1]\nRemv pve-manager [9.1.8]\nRemv proxmox-ve [9.1.0]\n"), 0o600))
	_, err := testkit.TryPlan(t, get(t, "package"), target, `names = ["exim4"]`)
	requireRefusal(t, err, "apt would remove pve-manager, proxmox-ve")
	require.Empty(t, target.Jobs())
}

func TestPackageIsRefusedAlsoWhenTheLastLookSaysSo(t *testing.T) {
	target, l := local(t)
	root := debian(t, l, nil, map[string]string{"exim4": "1"})
	changes := testkit.Plan(t, get(t, "package"), target, `names = ["exim4"]`)
	require.NoError(t, os.WriteFile(filepath.Join(root, "also"), []byte("Remv corosync [3]\n"), 0o600))
	requireRefusal(t, testkit.Apply(t.Context(), target, changes), "apt would remove corosync")
	require.Empty(t, target.Jobs())
}

func TestPackageShowsWhatComesAlongAndItsRisk(t *testing.T) {
	target, l := local(t)
	root := debian(t, l, nil, map[string]string{"chrony": "4"})
	require.NoError(t, os.WriteFile(filepath.Join(root, "also"), []byte("Inst libx (2 Debian:13 [amd64])\nRemv systemd-timesyncd [257]\nConf chrony (4)\n"), 0o600))
	changes := testkit.Plan(t, get(t, "package"), target, `names = ["chrony"]`)
	require.Equal(t, `{"also installed":"libx","also removed":"systemd-timesyncd","chrony":"4"}`, asJSON(t, changes[0].After))
	require.Equal(t, module.RiskDisruptive, changes[0].Risk)
}

func TestPackageWithInterruptedDpkgIsRefused(t *testing.T) {
	conn := testkit.NewConn(t, "pve1").OnOutput("dpkg-query", "interrupted\nage 10\n")
	_, err := testkit.TryPlan(t, get(t, "package"), testkit.NewTarget(t, "pve1", conn), `names = ["jq"]`)
	requireRefusal(t, err, "dpkg --configure -a")
}

func TestPackageWaitsForTheLockOnTheLists(t *testing.T) {
	conn := testkit.NewConn(t, "pve1").
		On("dpkg-query", testkit.Reply{Stdout: "age 7200\n"}).
		OnOutput("apt-get -s", "Inst jq (1 Debian:13 [amd64])\n").
		OnOutput("touch -c -d now /var/lib/apt/lists", "").
		OnOutput("touch -c -d @0 /var/lib/apt/lists", "")
	target := testkit.NewTarget(t, "pve1", conn)
	locked := 3
	target.OnDetach = func(_ string, j module.Job) (transport.Result, error) {
		if j.Name == "apt-update" && locked > 0 {
			locked--
			return transport.Result{Exit: 100, Stderr: []byte("E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (apt-get)\n")}, nil
		}
		return transport.Result{}, nil
	}
	require.NoError(t, testkit.Apply(t.Context(), target, testkit.Plan(t, get(t, "package"), target, `names = ["jq"]`)))
	require.Equal(t, 90*time.Second, target.Elapsed())
	require.Len(t, target.Jobs(), 5)

	locked = 100
	err := testkit.Apply(t.Context(), target, testkit.Plan(t, get(t, "package"), target, `names = ["jq"]`))
	require.ErrorContains(t, err, "Could not get lock /var/lib/apt/lists/lock")
}
