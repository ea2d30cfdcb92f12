package machine_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pxrun/pxrun/lab/clock"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a network of machines on a fast clock.
type world struct {
	t        *testing.T
	clock    clock.Clock
	machines []*machine.Machine
	path     machine.Path
}

func newWorld(t *testing.T, names ...string) *world {
	t.Helper()
	w := &world{t: t, clock: clock.New(200), path: machine.Path{Reachable: true, RTT: 500 * time.Microsecond, MTU: 1500}}
	for i, name := range names {
		w.machines = append(w.machines, machine.New(machine.Options{
			Name: name, Network: w, Seed: uint64(i), BootTime: 2 * time.Second, ShutdownTime: time.Second,
			Interfaces: []machine.Interface{{Name: "vmbr0", MTU: 1500, Addrs: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.0.0.%d/24", i+1))}}},
		}))
	}
	t.Cleanup(func() {
		w.clock.Close()
		for _, m := range w.machines {
			m.Close()
		}
	})
	return w
}

func (w *world) Find(addressOrName string) *machine.Machine {
	for _, m := range w.machines {
		a, err := netip.ParseAddr(addressOrName)
		if m.Name() == addressOrName || err == nil && !a.IsLoopback() && m.Owns(a) {
			return m
		}
	}
	return nil
}

func (w *world) Path(_, _ netip.Addr) machine.Path { return w.path }
func (w *world) Clock() clock.Clock                { return w.clock }

// sh runs a script as root and returns its output, standard error included, and its status.
func sh(t *testing.T, m *machine.Machine, script string) (string, int) {
	t.Helper()
	return shAs(t, m, 0, script, "")
}

func shAs(t *testing.T, m *machine.Machine, uid int, script, stdin string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	env := map[string]string{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
	code := m.Shell(ctx, script, machine.Proc{Dir: "/", UID: uid, Env: env, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &out})
	require.NoError(t, ctx.Err())
	return out.String(), code
}

// step is a script with what it must print.
type step struct {
	script, want string
	code         int
}

func check(t *testing.T, m *machine.Machine, steps []step) {
	t.Helper()
	for _, s := range steps {
		got, code := sh(t, m, s.script)
		require.Equal(t, s.want, got, s.script)
		require.Equal(t, s.code, code, s.script)
	}
}

func TestFreshMachine(t *testing.T) {
	m := newWorld(t, "pve1").machines[0]
	check(t, m, []step{
		{"hostname; hostname -f; hostname -I; uname -rm", "pve1\npve1.example.com\n10.0.0.1 \n6.17.2-1-pve x86_64\n", 0},
		{"getent ahostsv4 pve1 | head -n 1; getent passwd root; getent hosts nobody", "10.0.0.1        STREAM pve1.example.com\nroot:x:0:0:root:/root:/bin/bash\n", 2},
		{"test -L /bin && test -d /etc/ssh && test -s /etc/machine-id && cat /proc/sys/kernel/random/boot_id | wc -c", "37\n", 0},
		{"cat /proc/sys/kernel/random/uuid >/tmp/a; cat /proc/sys/kernel/random/uuid >/tmp/b; cmp -s /tmp/a /tmp/b", "", 1},
		{". /etc/os-release; echo $VERSION_CODENAME $ID", "trixie debian\n", 0},
		{"ip -j addr | grep -o '\"local\":\"10[^\"]*\"'", "\"local\":\"10.0.0.1\"\n", 0},
		{"ls -l /etc/shadow | cut -c1-10; stat -c %a /root /tmp", "-r--r-----\n700\n1777\n", 0},
		{"echo x >/proc/uptime", "sh: 1: cannot create /proc/uptime: Permission denied\n", 2},
		{"chronyc -c tracking | cut -d, -f5", "0.000000000\n", 0},
	})
	m.SetSkew(3 * time.Second)
	out, _ := sh(t, m, "chronyc -c tracking | cut -d, -f5; date +%s")
	require.True(t, strings.HasPrefix(out, "-3.000000000\n"), out)
}

func TestUnits(t *testing.T) {
	m := newWorld(t, "pve1").machines[0]
	fail := true
	var log []string
	m.AddUnit(machine.Unit{Name: "base", OnStart: func(context.Context) error { log = append(log, "base"); return nil }})
	m.AddUnit(machine.Unit{Name: "fragile", Description: "Breaks", After: []string{"base.service"}, OnStart: func(context.Context) error {
		log = append(log, "fragile")
		if fail {
			return fmt.Errorf("broken")
		}
		return nil
	}})
	m.AddUnit(machine.Unit{Name: "conditional", Condition: func() bool { return false }})
	check(t, m, []step{
		{"systemctl is-active ssh fragile nope", "active\ninactive\ninactive\n", 0},
		{"systemctl is-active fragile", "inactive\n", 3},
		{"systemctl is-active nope", "inactive\n", 4},
		{"systemctl start fragile", "Job for fragile.service failed because the control process exited with error code.\nSee \"systemctl status fragile.service\" and \"journalctl -xeu fragile.service\" for details.\n", 1},
		{"systemctl show -p Id,LoadState,ActiveState,SubState,UnitFileState fragile nope", "Id=fragile.service\nLoadState=loaded\nActiveState=failed\nSubState=failed\nUnitFileState=disabled\n\nId=nope.service\nLoadState=not-found\nActiveState=inactive\nSubState=dead\nUnitFileState=\n", 0},
		{"systemctl list-units --failed --no-legend --plain", "fragile.service loaded failed failed Breaks\n", 0},
		{"systemctl is-system-running", "degraded\n", 1},
		{"systemctl reset-failed fragile; systemctl is-failed fragile", "inactive\n", 1},
		{"systemctl start conditional; systemctl is-active conditional", "inactive\n", 3},
		{"systemctl start nope", "Failed to start nope.service: Unit nope.service not found.\n", 5},
		{"systemctl reload base", "Failed to reload base.service: Job type reload is not applicable for unit base.service.\n", 1},
		{"systemctl enable base 2>/dev/null; systemctl is-enabled base ssh; systemctl disable base 2>/dev/null; systemctl is-enabled base", "enabled\nenabled\ndisabled\n", 1},
		{"systemctl mask base; systemctl stop base; systemctl start base", "Failed to start base.service: Unit base.service is masked.\n", 1},
		{"systemctl unmask base; systemctl frobnicate", "Unknown command verb 'frobnicate'.\n", 1},
	})
	require.Equal(t, []string{"base", "fragile"}, log)
	fail = false
	check(t, m, []step{{"systemctl restart fragile && systemctl is-active fragile && systemctl show --value -p MainPID fragile | grep -c '[1-9]'", "active\n1\n", 0}})
	out, code := shAs(t, m, 65534, "systemctl restart ssh", "")
	require.Equal(t, "Failed to restart ssh: Interactive authentication required.\n", out)
	require.Equal(t, 1, code)
}

func TestUnitsFromFiles(t *testing.T) {
	m := newWorld(t, "pve1").machines[0]
	check(t, m, []step{
		{"printf '[Service]\\nType=oneshot\\nExecStart=/bin/sh -c \"echo ran >/tmp/ran\"\\n[Install]\\nWantedBy=multi-user.target\\n' >/etc/systemd/system/mine.service; systemctl daemon-reload; systemctl enable --now mine 2>/dev/null; cat /tmp/ran; systemctl is-active mine", "ran\nactive\n", 0},
		{"printf '[Service]\\nExecStart=/no/such/program\\n' >/etc/systemd/system/bad.service; systemctl daemon-reload; systemctl start bad 2>/dev/null; echo $?; systemctl is-active bad", "1\nfailed\n", 3},
	})
}

func TestTransientUnitsOutliveTheirSession(t *testing.T) {
	m := newWorld(t, "pve1").machines[0]
	check(t, m, []step{
		{"systemd-run -q --wait --collect -p StandardOutput=file:/tmp/out sh -c 'echo hi; exit 3'; echo $?; cat /tmp/out", "3\nhi\n", 0},
		{"systemd-run -q --unit=job sh -c 'exit 4'; while systemctl -q is-active job; do sleep 0.1; done; systemctl is-failed job; systemctl show -p Result,ExecMainStatus job", "failed\nResult=exit-code\nExecMainStatus=4\n", 0},
		{"systemd-run -q --unit=job true", "Failed to start transient service unit: Unit job.service was already loaded or has a fragment file.\n", 1},
		{"systemctl reset-failed job; systemd-run -q --unit=job sleep 1000 && systemctl is-active job && systemctl stop job; systemctl is-active job", "active\ninactive\n", 4},
		{"systemd-run --pipe -q cat <<E\npiped\nE", "piped\n", 0},
		{"systemd-run -q --unit=nope /no/such", "Failed to find executable /no/such: No such file or directory\n", 1},
		{"systemd-run --on-active=2 --unit=later touch /tmp/later; test -e /tmp/later; echo $?; sleep 4; test -e /tmp/later", "Running timer as unit: later.timer\nWill run service as unit: later.service\n1\n", 0},
		{"systemd-run -q --unit=talks sh -c 'echo to the journal'; sleep 1; journalctl -u talks -o cat | grep '^to'", "to the journal\n", 0},
	})
	ctx, hangUp := context.WithCancel(t.Context())
	ctx, _ = m.NewSession(ctx)
	require.Zero(t, m.Shell(ctx, "systemd-run -q --unit=long sh -c 'sleep 3; echo done >/tmp/long'; nohup sh -c 'sleep 3; echo done >/tmp/nohup' >/dev/null 2>&1 &", machine.Proc{}))
	hangUp()
	check(t, m, []step{{"sleep 6; cat /tmp/long /tmp/nohup", "done\ndone\n", 0}})
}

func TestRebootStopsAndStartsInOrder(t *testing.T) {
	w := newWorld(t, "pve1")
	m := w.machines[0]
	var mu sync.Mutex
	var log []string
	note := func(text string) func(context.Context) error {
		return func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			log = append(log, text)
			return nil
		}
	}
	for _, name := range []string{"one", "two"} {
		m.AddUnit(machine.Unit{Name: name, Enabled: true, OnStart: note("start " + name), OnStop: note("stop " + name)})
		require.NoError(t, m.StartUnit(t.Context(), name))
	}
	m.AddUnit(machine.Unit{Name: "off", OnStart: note("never")})
	up := make(chan bool, 4)
	m.OnPower(func(on bool) { up <- on })
	before := m.BootID()
	_, code := sh(t, m, "touch /run/gone /root/stays; systemctl reboot")
	require.Zero(t, code)
	require.False(t, <-up)
	require.False(t, m.Up())
	require.Equal(t, 137, m.Exec(t.Context(), machine.Proc{Argv: []string{"true"}}), "nothing runs while the machine is off")
	require.True(t, <-up)
	require.NotEqual(t, before, m.BootID())
	require.Less(t, m.Uptime(), time.Minute)
	require.Equal(t, []string{"start one", "start two", "stop two", "stop one", "start one", "start two"}, log)
	check(t, m, []step{{"ls /run/gone /root/stays 2>/dev/null; systemctl is-active ssh", "/root/stays\nactive\n", 0}})
}

func TestPowerLossEndsProcesses(t *testing.T) {
	w := newWorld(t, "pve1")
	m := w.machines[0]
	done := make(chan int, 1)
	started := make(chan struct{})
	m.Register("waits", func(ctx context.Context, _ *machine.Proc) int {
		close(started)
		<-ctx.Done()
		return 0
	})
	go func() { done <- m.Exec(context.Background(), machine.Proc{Argv: []string{"waits"}}) }()
	<-started
	m.PowerOff()
	require.Equal(t, 137, <-done)
}

func TestSudo(t *testing.T) {
	m := newWorld(t, "pve1").machines[0]
	for i, u := range []machine.User{
		{Name: "free", Sudo: machine.SudoNoPassword}, {Name: "asked", Sudo: machine.SudoPassword, Password: "pass"}, {Name: "none", Password: "pass"},
	} {
		u.UID = 1000 + i
		require.NoError(t, m.AddUser(u))
	}
	for _, c := range []struct {
		uid        int
		script, in string
		want       string
		code       int
	}{
		{1000, "sudo -n id -u; sudo -n -H sh -c 'echo $HOME $SUDO_USER'", "", "0\n/root free\n", 0},
		{1001, "sudo -n true", "", "sudo: a password is required\n", 1},
		{1001, "sudo -S -p 'pw:' id -u", "pass\n", "pw:0\n", 0},
		{1001, "sudo -S -p '' id -u; echo $?", "wrong\nwrong\nwrong\n", "Sorry, try again.\nSorry, try again.\nsudo: 3 incorrect password attempts\n1\n", 0},
		{1002, "sudo -S -p '' true", "pass\n", "none is not in the sudoers file.\n", 1},
		{1000, "sudo -n nosuch", "", "sudo: nosuch: command not found\n", 1},
		{1000, "sudo -n -u asked id -un; cat /etc/shadow", "", "asked\ncat: /etc/shadow: Permission denied\n", 1},
		{0, "su none -c 'id -un; echo $HOME'", "", "none\n/home/none\n", 0},
	} {
		got, code := shAs(t, m, c.uid, c.script, c.in)
		require.Equal(t, c.want, got, c.script)
		require.Equal(t, c.code, code, c.script)
	}
}

func TestPackages(t *testing.T) {
	m := newWorld(t, "pve1").machines[0]
	installs := 0
	hook := func(context.Context, *machine.Machine) error { installs++; return nil }
	m.Offer(
		machine.Package{Name: "tool", Version: "1.0-1", Depends: []string{"libtool1"}, Files: map[string]string{"/etc/tool.conf": "x\n", "/usr/share/tool": "y\n"}, OnInstall: hook, Units: []machine.Unit{{Name: "toold", Enabled: true}}},
		machine.Package{Name: "libtool1", Version: "1.0-1", Arch: "all"},
	)
	get := "apt-get -y -q -o Dpkg::Options::=--force-confold "
	check(t, m, []step{
		{"apt-get -s -q install tool | grep -E '^(Inst|Conf|[0-9])'", "0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.\nInst libtool1 (1.0-1 Debian:13.2/stable [all])\nInst tool (1.0-1 Debian:13.2/stable [amd64])\nConf libtool1 (1.0-1 Debian:13.2/stable [all])\nConf tool (1.0-1 Debian:13.2/stable [amd64])\n", 0},
		{"dpkg-query -W tool", "dpkg-query: no packages found matching tool\n", 1},
		{get + "install tool >/dev/null; cat /etc/tool.conf; systemctl is-active toold", "x\nactive\n", 0},
		{get + "install tool | tail -n 2", "tool is already the newest version (1.0-1).\n0 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\n", 0},
		{"apt-get -y -q install nosuch 2>&1 | tail -n 1", "E: Unable to locate package nosuch\n", 0},
		{get + "remove tool >/dev/null; dpkg-query -W -f '${db:Status-Status}\\n' tool; ls /etc/tool.conf /usr/share/tool 2>/dev/null", "config-files\n/etc/tool.conf\n", 2},
		{"apt-get -s -q remove bash | grep ^Remv; apt-mark hold curl", "Remv bash [5.2.37-2+b5]\nE: Can't select installed nor candidate version from package 'curl' as it has neither of them\n", 100},
		{"dpkg --compare-versions 1.0~rc1 lt 1.0 && dpkg --compare-versions 1:0.1 gt 9 && dpkg --compare-versions 1.10-1 gt 1.9-2", "", 0},
	})
	require.Equal(t, 1, installs)
	m.Offer(machine.Package{Name: "dash", Version: "0.5.13-1"}, machine.Package{Name: "sed", Version: "4.10-1"})
	m.Hold("sed", true)
	check(t, m, []step{{"apt-get -s -q -o Debug::NoLocking=1 dist-upgrade | grep -E '^(Inst|[0-9])'; apt-mark showhold", "1 upgraded, 0 newly installed, 0 to remove and 1 not upgraded.\nInst dash [0.5.12-12] (0.5.13-1 Debian:13.2/stable [amd64])\nsed\n", 0}})
}

func TestAptFaults(t *testing.T) {
	m := newWorld(t, "pve1").machines[0]
	for _, c := range []struct {
		name   string
		faults machine.AptFaults
		script string
		want   string
		code   int
	}{
		{"lock", machine.AptFaults{LockedBy: "apt-get", LockedPID: 77}, "apt-get -y install jq", "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 77 (apt-get)", 100},
		{"lock with patience", machine.AptFaults{LockedBy: "apt-get", LockedPID: 77}, "apt-get -y -o DPkg::Lock::Timeout=3 install jq", "Waiting for cache lock", 100},
		{"lists lock", machine.AptFaults{ListsLocked: true}, "apt-get update", "E: Could not get lock /var/lib/apt/lists/lock.", 100},
		{"interrupted", machine.AptFaults{Interrupted: true}, "apt-get -y install jq", "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem.", 100},
		{"no subscription", machine.AptFaults{Unauthorized: []string{"http://deb.debian.org"}}, "apt-get update", "  401  Unauthorized [IP: ", 100},
		{"broken package", machine.AptFaults{Broken: []string{"jq"}}, "apt-get -y install jq", "E: Sub-process /usr/bin/dpkg returned an error code (1)", 100},
		{"offline", machine.AptFaults{Offline: true}, "apt-get -y install htop", "E: Unable to fetch some archives", 100},
		{"none", machine.AptFaults{}, "apt-get -y install htop", "Setting up htop", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.SetAptFaults(c.faults)
			got, code := sh(t, m, c.script)
			require.Contains(t, got, c.want)
			require.Equal(t, c.code, code)
		})
	}
}

func TestKilledAptLeavesDpkgInterrupted(t *testing.T) {
	m := newWorld(t, "pve1").machines[0]
	check(t, m, []step{
		{"apt-get -y install jq >/dev/null & sleep 0.5; kill -9 $!; wait $! 2>/dev/null; ls /var/lib/dpkg/updates/[0-9]* | wc -l", "1\n", 0},
		{"dpkg --configure -a; ls /var/lib/dpkg/updates 2>/dev/null; apt-get -y install jq >/dev/null; jq --version", "jq 1.7.1-6\n", 0},
	})
}

func TestSSHBetweenMachines(t *testing.T) {
	w := newWorld(t, "pve1", "pve2")
	a, b := w.machines[0], w.machines[1]
	key := "ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_rsa"
	check(t, a, []step{
		{"ssh -o BatchMode=yes -o StrictHostKeyChecking=yes root@10.0.0.2 true", "No ED25519 host key is known for 10.0.0.2 and you have requested strict checking.\r\nHost key verification failed.\r\n", 255},
		{"ssh -o BatchMode=yes pve9 true", "ssh: Could not resolve hostname pve9: Name or service not known\r\n", 255},
		{"ssh-keyscan -t ed25519 10.0.0.2 2>/dev/null >>/root/.ssh/known_hosts; ssh -o BatchMode=yes 10.0.0.2 true", "root@10.0.0.2: Permission denied (publickey,password).\r\n", 255},
		{key + "; ssh -o BatchMode=yes 10.0.0.2 true", "root@10.0.0.2: Permission denied (publickey,password).\r\n", 255},
	})
	out, code := sh(t, a, "ssh-copy-id -i /root/.ssh/id_rsa root@10.0.0.2 </dev/null")
	require.Equal(t, 1, code)
	require.Contains(t, out, "INFO: 1 key(s) remain to be installed")
	require.Contains(t, out, "Permission denied (publickey,password).")
	public, err := a.FS.ReadFile("/root/.ssh/id_rsa.pub")
	require.NoError(t, err)
	require.NoError(t, b.FS.WriteFile("/root/.ssh/authorized_keys", public, 0o600))
	check(t, a, []step{
		{"ssh -o BatchMode=yes 10.0.0.2 'hostname; read x; echo $x; exit 6' <<E\nover\nE", "pve2\nover\n", 6},
		{"ssh-copy-id -i /root/.ssh/id_rsa root@10.0.0.2 2>&1 | grep -c 'All keys were skipped'", "1\n", 0},
		{"echo data >/tmp/f; scp -q /tmp/f 10.0.0.2:/tmp/g; rsync -a root@10.0.0.2:/tmp/g /tmp/h; cat /tmp/h; ssh 10.0.0.2 stat -c %a /tmp/g", "data\n644\n", 0},
		{"ssh -o BatchMode=yes -o HostKeyAlias=pve2 10.0.0.2 true", "Host key verification failed.\r\n", 255},
		{"chmod 644 /root/.ssh/id_rsa; ssh -o BatchMode=yes 10.0.0.2 true 2>&1 | grep -c UNPROTECTED; chmod 600 /root/.ssh/id_rsa", "1\n", 0},
		{"ssh-keygen -F 10.0.0.2 | head -n 1; ssh-keygen -R 10.0.0.2 2>&1 | head -n 1; ssh-keygen -F 10.0.0.2; echo $?", "# Host 10.0.0.2 found: line 1\n# Host 10.0.0.2 found: line 1\n1\n", 0},
		{"ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new pve2 true", "Warning: Permanently added 'pve2' (ED25519) to the list of known hosts.\r\n", 0},
	})
	require.NoError(t, b.StopUnit(t.Context(), "ssh"))
	check(t, a, []step{{"ssh -o BatchMode=yes pve2 true", "ssh: connect to host pve2 port 22: Connection refused\r\n", 255}})
	b.PowerOff()
	check(t, a, []step{{"ssh -o BatchMode=yes -o ConnectTimeout=2 pve2 true", "ssh: connect to host pve2 port 22: Connection timed out\r\n", 255}})
}

func TestChangedHostKeyIsRefused(t *testing.T) {
	w := newWorld(t, "pve1", "pve2")
	a, b := w.machines[0], w.machines[1]
	_, code := sh(t, a, "ssh-keyscan pve2 2>/dev/null >/root/.ssh/known_hosts")
	require.Zero(t, code)
	_, code = sh(t, b, "rm /etc/ssh/ssh_host_*; ssh-keygen -A")
	require.Zero(t, code)
	out, code := sh(t, a, "ssh -o BatchMode=yes pve2 true")
	require.Equal(t, 255, code)
	require.Contains(t, out, "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!")
	require.Contains(t, out, "Host key verification failed.")
}

func TestPing(t *testing.T) {
	w := newWorld(t, "pve1", "pve2")
	a, b := w.machines[0], w.machines[1]
	out, code := sh(t, a, "ping -n -q -c 5 -i 0.05 -W 1 -I 10.0.0.1 10.0.0.2")
	require.Zero(t, code)
	require.Regexp(t, `(?s)^PING 10\.0\.0\.2 \(10\.0\.0\.2\) 56\(84\) bytes of data\.\n\n--- 10\.0\.0\.2 ping statistics ---\n5 packets transmitted, 5 received, 0% packet loss, time \d+ms\nrtt min/avg/max/mdev = 0\.\d{3}/0\.\d{3}/0\.\d{3}/0\.\d{3} ms\n$`, out)
	check(t, a, []step{
		{"ping -n -q -c 1 -W 1 -M do -s 1472 10.0.0.2 >/dev/null", "", 0},
		{"ping -n -q -c 1 -W 1 -M do -s 1473 10.0.0.2 2>&1 | grep -E 'local|packets' | sed 's/, time.*//'", "ping: local error: message too long, mtu=1500\n1 packets transmitted, 0 received, +1 errors, 100% packet loss\n", 0},
		{"ping -c 1 nowhere", "ping: nowhere: Name or service not known\n", 2},
		{"for i in 1 2 3; do ping -q -c 1 10.0.0.2 >/tmp/p$i & done; wait; grep -l ' 0% packet loss' /tmp/p1 /tmp/p2 /tmp/p3 | wc -l", "3\n", 0},
		{"nc -z -w 2 10.0.0.2 22; echo $?; nc -z -w 2 10.0.0.2 8006; echo $?", "0\n1\n", 0},
	})
	w.path.Reachable = false
	check(t, a, []step{{"ping -q -c 2 -i 0.1 -W 1 10.0.0.2 | grep packets | cut -d, -f1-3; nc -z -w 1 10.0.0.2 22", "2 packets transmitted, 0 received, 100% packet loss\n", 1}})
	w.path.Reachable = true
	b.AddUnit(machine.Unit{Name: "pveproxy", Ports: []int{8006}})
	require.NoError(t, b.StartUnit(t.Context(), "pveproxy"))
	check(t, a, []step{
		{"nc -z 10.0.0.2 8006; bash -c 'exec 3<>/dev/tcp/10.0.0.2/8006' && echo open", "open\n", 0},
		{"ip -j link | grep -o '\"mtu\":1500'; ip addr show dev nope", "\"mtu\":1500\nDevice \"nope\" does not exist.\n", 1},
	})
}

func TestFaultsAndAuditOfPrograms(t *testing.T) {
	m := newWorld(t, "pve1").machines[0]
	calls := 0
	m.BeforeExec(func(_ context.Context, p *machine.Proc) (int, bool) {
		if p.Name() != "sha256sum" {
			return 0, false
		}
		if calls++; calls == 2 {
			p.Errorf("disk on fire")
			return 5, true
		}
		return 0, false
	})
	check(t, m, []step{{"echo | sha256sum >/dev/null; echo | sha256sum; echo $?", "sha256sum: disk on fire\n5\n", 0}})
	var mu sync.Mutex
	var writes []string
	m.FS.OnMutation(func(c vfs.Mutation) {
		mu.Lock()
		defer mu.Unlock()
		if p, ok := c.Actor.(*machine.Proc); ok && !strings.HasPrefix(c.Path, "/dev") {
			writes = append(writes, fmt.Sprint(p.Tag, " ", p.Name(), " ", c.Op, " ", c.Path))
		}
	})
	m.Shell(t.Context(), "echo x >/tmp/a; sh -c 'touch /tmp/b' & wait; cat /etc/hosts >/dev/null", machine.Proc{Tag: "tag"})
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, []string{"tag sh create /tmp/a", "tag sh write /tmp/a", "tag touch create /tmp/b"}, writes)
}

func TestFullDisk(t *testing.T) {
	m := newWorld(t, "pve1").machines[0]
	used, _ := m.Disk().Usage()
	m.SetDiskLimit(used + 100)
	check(t, m, []step{
		{"head -c 1000 /dev/zero >/root/big", "head: error writing 'standard output': No space left on device\n", 1},
		{"cat /etc/passwd | tee /root/more >/dev/null", "tee: /root/more: No space left on device\n", 1},
	})
	m.SetDiskLimit(0)
	check(t, m, []step{{"echo ok >/root/more; cat /root/more", "ok\n", 0}})
}

func TestHangingFileIsEndedByTimeout(t *testing.T) {
	m := newWorld(t, "pve1").machines[0]
	m.FS.SetFaults(vfs.Fault{Below: "/etc/hosts", Ask: func(ctx context.Context, op vfs.Op, _ string) error {
		if op == vfs.OpOpen {
			<-ctx.Done()
		}
		return nil
	}})
	check(t, m, []step{{"timeout -k 2 0.5 cat /etc/hosts; echo $?", "124\n", 0}})
}

func TestScriptsByInterpreterLine(t *testing.T) {
	m := newWorld(t, "pve1").machines[0]
	check(t, m, []step{
		{"printf '#!/bin/sh\\necho \"$0 $1\"\\nnosuch\\n' >/tmp/s; chmod +x /tmp/s; /tmp/s arg; echo $?", "/tmp/s arg\n/tmp/s: 3: nosuch: not found\n127\n", 0},
		{"cp /bin/true /tmp/mytrue; /tmp/mytrue; echo $?; rm /usr/bin/jq 2>/dev/null; command -v jq; echo $?", "0\n127\n", 0},
		{"ln -s /bin/echo /tmp/e; /tmp/e via link", "via link\n", 0},
	})
}

func BenchmarkCommandInShell(b *testing.B) {
	m := machine.New(machine.Options{Name: "pve1"})
	defer m.Close()
	in := machine.NewPipe()
	out := machine.NewPipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Exec(context.Background(), machine.Proc{Argv: []string{"sh"}, Stdin: in, Stdout: out})
	}()
	buf := make([]byte, 4096)
	for b.Loop() {
		if _, err := in.Write([]byte("( cat /etc/hostname )</dev/null; printf '\\nMARK %d\\n' $?\n")); err != nil {
			b.Fatal(err)
		}
		var got []byte
		for !bytes.HasSuffix(got, []byte("MARK 0\n")) {
			n, err := out.Read(buf)
			if err != nil {
				b.Fatal(err)
			}
			got = append(got, buf[:n]...)
		}
	}
	in.CloseWrite()
	<-done
}

func BenchmarkNew(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		machine.New(machine.Options{Name: "pve1"}).Close()
	}
}
