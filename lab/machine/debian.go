package machine

import (
	"crypto/rand"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/pxrun/pxrun/lab/vfs"
)

// runDirs exist in /run after each boot.
var runDirs = []string{"/run/lock", "/run/sshd", "/run/systemd/system"}

// baseDirs are the folders of a Debian system, besides those that files bring along.
var baseDirs = []string{
	"/boot", "/etc/apt/sources.list.d", "/etc/cron.d", "/etc/network", "/etc/ssh/sshd_config.d", "/etc/sudoers.d", "/etc/systemd/system", "/etc/default", "/etc/kernel",
	"/home", "/media", "/mnt", "/opt", "/srv", "/sys/class/net", "/usr/lib/systemd/system", "/usr/local/bin", "/usr/local/sbin", "/usr/sbin", "/usr/share",
	"/var/cache/apt/archives", "/var/lib/apt/lists", "/var/lib/dpkg", "/var/log", "/var/mail", "/var/spool/cron",
}

// installBase fills a new machine: folders, /etc, devices, /proc, programs, units, packages.
func (m *Machine) installBase() {
	must := func(err error) {
		if err != nil {
			panic(fmt.Sprintf("base system of %s: %v", m.opt.Name, err)) // the table below is wrong, whatever the options
		}
	}
	for _, dir := range append(baseDirs, runDirs...) {
		must(m.FS.MkdirAll(dir, 0o755))
	}
	for path, target := range map[string]string{
		"/bin": "usr/bin", "/sbin": "usr/sbin", "/lib": "usr/lib", "/var/run": "/run", "/var/lock": "/run/lock", "/etc/mtab": "../proc/self/mounts",
	} {
		must(m.FS.Symlink(target, path))
	}
	must(m.FS.Mkdir("/root", 0o700))
	must(m.FS.Mkdir("/root/.ssh", 0o700))
	for _, dir := range []string{"/tmp", "/var/tmp"} {
		must(m.FS.Mkdir(dir, 0o777))
		must(m.FS.Chmod(dir, 0o777|fs.ModeSticky))
	}
	for path, content := range m.baseFiles() {
		must(m.disk.Seed(path, modeOf(path), []byte(content)))
	}
	m.installDevices()
	m.proc = newProcFS(m)
	must(m.FS.Mount("/proc", m.proc))
	for name, program := range programTable() {
		path := name
		if !strings.Contains(name, "/") {
			path = "/usr/bin/" + name
		}
		key := path[strings.LastIndexByte(path, '/')+1:]
		m.programs[key] = program
		must(m.disk.Seed(path, 0o755, []byte(elfMark+key+"\n")))
	}
	must(m.AddUser(User{Name: "root", Home: "/root", Password: m.opt.RootPassword}))
	m.installHostKeys()
	m.installUnits()
	m.installPackages()
}

func modeOf(path string) fs.FileMode {
	switch path {
	case "/etc/shadow", "/etc/sudoers":
		return 0o440
	}
	return 0o644
}

// baseFiles are the files that every machine has, with this one's names in them.
func (m *Machine) baseFiles() map[string]string {
	o := m.opt
	fqdn := o.Name + "." + o.Domain
	var hosts strings.Builder
	hosts.WriteString("127.0.0.1 localhost.localdomain localhost\n")
	if len(o.Interfaces) > 0 && len(o.Interfaces[0].Addrs) > 0 {
		fmt.Fprintf(&hosts, "%s %s %s\n", o.Interfaces[0].Addrs[0].Addr(), fqdn, o.Name)
	}
	hosts.WriteString("\n# The following lines are desirable for IPv6 capable hosts\n\n::1     ip6-localhost ip6-loopback\n")
	version := map[string]string{"bookworm": "12 (bookworm)", "trixie": "13 (trixie)"}[o.Codename]
	return map[string]string{
		"/etc/hostname":       o.Name + "\n",
		"/etc/hosts":          hosts.String(),
		"/etc/debian_version": o.Release + ".2\n",
		"/etc/machine-id":     strings.ReplaceAll(m.uuid(), "-", "") + "\n",
		"/etc/os-release": fmt.Sprintf("PRETTY_NAME=\"Debian GNU/Linux %s\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"%s\"\nVERSION=\"%s\"\nVERSION_CODENAME=%s\nDEBIAN_VERSION_FULL=%s.2\nID=debian\nHOME_URL=\"https://www.debian.org/\"\nSUPPORT_URL=\"https://www.debian.org/support\"\nBUG_REPORT_URL=\"https://bugs.debian.org/\"\n",
			version, o.Release, version, o.Codename, o.Release),
		"/etc/passwd":                            "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\nbin:x:2:2:bin:/bin:/usr/sbin/nologin\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
		"/etc/group":                             "root:x:0:\ndaemon:x:1:\nbin:x:2:\nadm:x:4:\nsudo:x:27:\nwww-data:x:33:\nssl-cert:x:104:\nnogroup:x:65534:\n",
		"/etc/shadow":                            "root:*:20000:0:99999:7:::\n",
		"/etc/sudoers":                           "Defaults\tenv_reset\nroot ALL=(ALL:ALL) ALL\n%sudo ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n",
		"/etc/resolv.conf":                       "search " + o.Domain + "\nnameserver 192.0.2.53\n",
		"/etc/nsswitch.conf":                     "passwd: files\ngroup: files\nhosts: files dns\n",
		"/etc/timezone":                          "Etc/UTC\n",
		"/etc/fstab":                             "/dev/pve/root / ext4 errors=remount-ro 0 1\n",
		"/etc/profile":                           "PATH=\"" + defaultPath + "\"\nexport PATH\n",
		"/etc/motd":                              "\nThe programs included with the Debian GNU/Linux system are free software.\n",
		"/root/.bashrc":                          "# ~/.bashrc: executed by bash(1) for non-login shells.\n",
		"/root/.profile":                         "# ~/.profile: executed by Bourne-compatible login shells.\n",
		"/etc/ssh/sshd_config":                   "Include /etc/ssh/sshd_config.d/*.conf\n\nPermitRootLogin yes\nKbdInteractiveAuthentication no\nUsePAM yes\nX11Forwarding yes\nPrintMotd no\nAcceptEnv LANG LC_*\nSubsystem\tsftp\t/usr/lib/openssh/sftp-server\n",
		"/etc/ssh/ssh_config":                    "Include /etc/ssh/ssh_config.d/*.conf\n\nHost *\n    SendEnv LANG LC_*\n    HashKnownHosts yes\n",
		"/etc/apt/sources.list.d/debian.sources": fmt.Sprintf("Types: deb\nURIs: http://deb.debian.org/debian/\nSuites: %s %s-updates\nComponents: main contrib non-free-firmware\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n", o.Codename, o.Codename),
		"/var/log/lastlog":                       "",
		"/var/lib/dpkg/lock":                     "",
		"/var/lib/dpkg/lock-frontend":            "",
		"/boot/vmlinuz-" + o.Kernel:              "kernel\n",
	}
}

// installDevices mounts /dev.
func (m *Machine) installDevices() {
	m.dev = vfs.NewMem(m.Now)
	add := func(name string, d device) {
		d.name = name
		if err := m.dev.Device("/"+name, 0o666, func(int) (vfs.File, error) { return d, nil }); err != nil {
			panic(err) // names are constants
		}
	}
	add("null", device{write: discard})
	add("zero", device{read: func(p []byte) (int, error) { clear(p); return len(p), nil }, write: discard})
	add("urandom", device{read: rand.Read, write: discard})
	add("random", device{read: rand.Read, write: discard})
	add("full", device{read: func(p []byte) (int, error) { clear(p); return len(p), nil }, write: func([]byte) (int, error) { return 0, fs.ErrInvalid }})
	_ = m.dev.Symlink("/proc/self/fd", "/fd")
	_ = m.dev.Mkdir("/shm", 0o777)
	_ = m.dev.Mkdir("/pts", 0o755)
	if err := m.FS.Mount("/dev", m.dev); err != nil {
		panic(err)
	}
}

// device is an open character device.
type device struct {
	name        string
	read, write func([]byte) (int, error)
}

func discard(p []byte) (int, error) { return len(p), nil }

func (d device) Read(p []byte) (int, error) {
	if d.read == nil {
		return 0, io.EOF
	}
	return d.read(p)
}

func (d device) Write(p []byte) (int, error) { return d.write(p) }
func (d device) Close() error                { return nil }

func (d device) Stat() (vfs.Info, error) {
	return vfs.Info{Name: d.name, Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666}, nil
}
