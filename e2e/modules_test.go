//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// threeHosts are plain hosts with an admin who knows them.
func threeHosts(t *testing.T) ([]*host, *admin) {
	t.Helper()
	hosts := newHosts(t, "web1", "web2", "web3")
	return hosts, newAdmin(t, hosts...)
}

func TestCommandRunsUntilItsGuardHolds(t *testing.T) {
	t.Parallel()
	hosts, a := threeHosts(t)
	a.site(hosts, `
runbook "r" {
  hosts = [host.web1, host.web2, host.web3]
  task "command" "mark" {
    run     = "printf '%s|%s' \"$WORD\" \"$(cat)\" >/var/lib/mark"
    env     = { WORD = "it's \"q\" $HOME ü" }
    stdin   = "two\nlines"
    creates = "/var/lib/mark"
  }
  task "command" "argv" {
    argv   = ["sh", "-c", "printf '<%s>' \"$@\" >/var/lib/argv", "sh", "a b", "", "*", "'", "$x;\n`+"`id`"+`", "日本"]
    unless = "test -s /var/lib/argv"
  }
  task "command" "kernel" {
    run       = "uname -s"
    read_only = true
  }
  task "file" "seen" {
    path    = "/etc/seen"
    content = "${task.kernel.results[self.name].stdout} on ${self.name}\n"
  }
}
`)
	a.pxrun("plan", "site.hcl", "--detailed-exitcode").exits(2)
	_, made := hosts[0].try("test -e /var/lib/mark")
	require.NotZero(t, made, "planning has run the command")
	a.apply()
	for _, h := range hosts {
		require.Equal(t, "it's \"q\" $HOME ü|two\nlines", h.read("/var/lib/mark"))
		require.Equal(t, "<a b><><*><'><$x;\n`id`><日本>", h.read("/var/lib/argv"))
		require.Equal(t, "Linux on "+h.name+"\n", h.read("/etc/seen"))
	}
	hosts[1].sh("rm /var/lib/mark") // drift on one host only
	r := a.pxrun("apply", "site.hcl", "--auto-approve", "--json").exits(0)
	var changed []string
	for _, e := range only(r.events(), "change_done") {
		changed = append(changed, e.Host)
	}
	require.Equal(t, []string{"web2"}, changed)
	a.unchanged()
}

func TestFailedCommandStopsBeforeTheNextTask(t *testing.T) {
	t.Parallel()
	hosts, a := threeHosts(t)
	hosts[1].sh("touch /etc/broken")
	a.site(hosts, `
runbook "r" {
  hosts = [host.web1, host.web2, host.web3]
  task "command" "first" {
    run     = "test ! -e /etc/broken || { echo 'the disk is on fire' >&2; exit 7; }; touch /run/first"
    creates = "/run/first"
  }
  task "file" "second" {
    path    = "/etc/second"
    content = "x"
  }
}
`)
	a.pxrun("apply", "site.hcl", "--auto-approve").exits(5).says("web2", "exit 7", "the disk is on fire")
	for _, h := range hosts {
		_, exit := h.try("test -e /etc/second")
		require.NotZero(t, exit, "%s went on", h.name)
	}
	hosts[1].sh("rm /etc/broken")
	a.pxrun("resume", "--auto-approve").exits(0)
	require.Equal(t, "x", hosts[1].read("/etc/second"))
	a.unchanged()
}

func TestScriptIsSentAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	hosts, a := threeHosts(t)
	a.write("tune.sh", "set -eu\n# comment with 'quotes' and \"more\"\nprintf '%s\\n' \"$0\" \"$@\" >/var/lib/tuned\nid -un >>/var/lib/tuned\n")
	a.site(hosts, `
runbook "r" {
  hosts = [host.web1, host.web2, host.web3]
  task "script" "tune" {
    source  = "tune.sh"
    args    = ["a b", "ü'\""]
    creates = "/var/lib/tuned"
  }
}
`)
	a.apply()
	for _, h := range hosts {
		lines := strings.Split(h.read("/var/lib/tuned"), "\n")
		require.Equal(t, []string{"a b", "ü'\"", "root", ""}, lines[1:])
		_, exit := h.try("test -e " + lines[0])
		require.NotZero(t, exit, "the script %s is still there", lines[0])
	}
}

func TestFileKeepsContentModeAndOwner(t *testing.T) {
	t.Parallel()
	hosts, a := threeHosts(t)
	for _, h := range hosts {
		h.sh("useradd -m app; install -m 0644 /dev/null /etc/app.old")
	}
	a.write("big.bin", strings.Repeat("0123456789abcdef\x00\xff\n", 200_000)) // 3.8 MB
	a.write("motd.tmpl", "%{ for n in names ~}\n- ${n}\n%{ endfor ~}\n'$${quoted}' \"ü\" \\n\n")
	a.site(hosts, `
runbook "r" {
  hosts = [host.web1, host.web2, host.web3]
  task "file" "folder" {
    path  = "/srv/a folder/in it's"
    state = "directory"
    mode  = "0750"
    owner = "app"
    parents = true
  }
  task "file" "text" {
    path    = "/srv/a folder/in it's/té\"xt"
    content = "quotes ' \" $HOME `+"`id`"+` \\ tab\t\nünïcødé 日本\nno end"
    mode    = "0640"
    owner   = "app"
    group   = "app"
  }
  task "file" "empty" {
    path    = "/srv/empty"
    content = ""
  }
  task "file" "big" {
    path   = "/srv/big.bin"
    source = "big.bin"
    mode   = "0400"
  }
  task "file" "link" {
    path   = "/srv/link"
    state  = "link"
    target = "a folder"
  }
  task "file" "old" {
    path   = "/etc/app.old"
    state  = "absent"
    backup = true
  }
  task "template" "names" {
    path   = "/etc/names"
    source = "motd.tmpl"
    vars   = { names = ["x", self.name] }
    mode   = "0600"
  }
}
`)
	a.apply()
	big := a.read("big.bin")
	for _, h := range hosts {
		require.Equal(t, "750 app\n", h.sh(`stat -c '%a %U' "/srv/a folder/in it's"`))
		require.Equal(t, "640 app:app\n", h.sh(`stat -c '%a %U:%G' "/srv/a folder/in it's/té\"xt"`))
		require.Equal(t, "quotes ' \" $HOME `id` \\ tab\t\nünïcødé 日本\nno end", h.read("/srv/a folder/in it's/té\"xt"))
		require.Equal(t, "0\n", h.sh("stat -c %s /srv/empty"))
		require.True(t, big == h.read("/srv/big.bin"), "the big file is not the same")
		require.Equal(t, "a folder\n", h.sh("readlink /srv/link"))
		require.Equal(t, "/etc/app.old.pxrun~\n", h.sh("ls -d /etc/app.old*"))
		require.Equal(t, "- x\n- "+h.name+"\n'${quoted}' \"ü\" \\n\n", h.read("/etc/names"))
	}

	// Drift of each kind is seen and repaired, and nothing else is touched.
	before := hosts[0].sh("stat -c %i /srv/big.bin")
	hosts[0].sh(`chmod 0777 "/srv/a folder/in it's/té\"xt"; chown root /srv/a\ folder/in*; echo more >>/srv/empty; ln -sfn /tmp /srv/link; echo x >/etc/app.old; rm /etc/names`)
	r := a.pxrun("plan", "site.hcl", "--detailed-exitcode", "--json").exits(2)
	for _, e := range r.events() {
		if e.Type == "change_started" {
			t.Errorf("a plan makes a change: %+v", e)
		}
	}
	a.apply()
	require.Equal(t, "640 app:app\n", hosts[0].sh(`stat -c '%a %U:%G' "/srv/a folder/in it's/té\"xt"`))
	require.Equal(t, "app a folder 0\n", hosts[0].sh(`printf '%s %s %s\n' "$(stat -c %U "/srv/a folder/in it's")" "$(readlink /srv/link)" "$(stat -c %s /srv/empty)"`))
	require.Equal(t, before, hosts[0].sh("stat -c %i /srv/big.bin"), "a file that was right was written again")
}

func TestFullDiskFailsAndKeepsTheOldFile(t *testing.T) {
	t.Parallel()
	h := newHost(t, hostSpec{name: "full", disk: "24m"})
	a := newAdmin(t, h)
	h.write("/srv/data", "old\n")
	h.sh("dd if=/dev/zero of=/srv/ballast bs=64k 2>/dev/null || rm -f /srv/none; head -c 100000 /srv/ballast >/dev/null")
	a.write("data", strings.Repeat("new ", 500_000))
	a.site([]*host{h}, `
runbook "r" {
  hosts = host.full
  task "file" "data" {
    path   = "/srv/data"
    source = "data"
  }
}
`)
	a.pxrun("apply", "site.hcl", "--auto-approve").exits(1).says("full", "No space left on device", "/srv/data")
	require.Equal(t, "old\n", h.read("/srv/data"))
	require.Equal(t, "ballast\ndata\n", h.sh("ls -A /srv"), "a temporary file was left")
	h.sh("rm /srv/ballast")
	a.apply()
	require.Equal(t, a.read("data"), h.read("/srv/data"))
}

func TestSecretsAreSeenNowhere(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "app")
	a := newAdmin(t, hosts...)
	const word = "correct-horse-battery"
	a.env = []string{"THE_WORD=" + word}
	a.site(hosts, `
secret "word" { env = "THE_WORD" }
runbook "r" {
  hosts = host.app
  task "file" "token" {
    path    = "/etc/token"
    content = "${secret.word}\n"
  }
  task "command" "leak" {
    run   = "cat >/run/got; ps -eo args >/run/ps; cat /run/got; echo failing with $(cat /run/got) >&2; exit 3"
    stdin = secret.word
  }
}
`)
	a.pxrun("apply", "site.hcl", "--auto-approve", "-vv").exits(5).says("exit 3").hides(word)
	require.Equal(t, word, hosts[0].read("/run/got"))
	require.NotContains(t, hosts[0].read("/run/ps"), word)
	require.Equal(t, word+"\n", hosts[0].read("/etc/token"))
	require.Equal(t, "600\n", hosts[0].sh("stat -c %a /etc/token"))
	a.pxrun("runs", "show", "--json").exits(0).hides(word)
	_, found := grep(t, a.path("state"), word)
	require.False(t, found, "the secret is in the state folder")
}
