package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/sourcegraph/conc/pool"
)

// way is one client: how it does a workload, as command lines that run one after the other.
type way struct {
	name string
	// argv gives the command lines; nil means that this way cannot do the workload, or has no place in its row.
	argv func(f *farm, w workload) [][]string
	// peer marks tools of others: they are run once a row, since some take minutes.
	peer bool
}

// ways lists the clients that exist on this machine.
func ways(self, program string) []way {
	worker := func(name string) way {
		return way{name: name, argv: func(f *farm, w workload) [][]string {
			return [][]string{{self, "worker", f.path("farm.json"), name, w.key()}}
		}}
	}
	list := []way{worker("bare session"), worker("bare shell"), worker("bare batch"), worker("transport")}
	if program != "" {
		list = append(list, way{name: "pxrun", argv: func(f *farm, w workload) [][]string { return pxrun(program, f, w) }})
	}
	if has("ssh") {
		mux := worker("OpenSSH mux")
		mux.peer = true
		list = append(list, mux)
	}
	if has("clush") {
		list = append(list, way{name: "clush", argv: clush, peer: true})
	}
	if has("ansible-playbook") {
		list = append(list, way{name: "Ansible", argv: ansible, peer: true})
	}
	return list
}

func has(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// pxrun writes a site of the workload, and runs the program on it.
func pxrun(program string, f *farm, w workload) [][]string {
	var site strings.Builder
	var names []string
	for i, address := range f.Addresses[:w.hosts] {
		fmt.Fprintf(&site, "host \"h%d\" {\n  address = %q\n  ssh {\n    user = \"root\"\n    port = %d\n    identity_file = %q\n    known_hosts = [%q]\n  }\n}\n",
			i, address, f.Port, f.Identity, f.KnownHosts)
		names = append(names, fmt.Sprintf("host.h%d", i))
	}
	fmt.Fprintf(&site, "runbook \"bench\" {\n  hosts = [%s]\n", strings.Join(names, ", "))
	for i, name := range w.files {
		fmt.Fprintf(&site, "  task \"file\" \"f%d\" {\n    path = %q\n    source = %q\n    mode = \"0644\"\n  }\n", i, f.path(name), f.path(name))
	}
	for i, t := range w.tasks {
		fmt.Fprintf(&site, "  task \"command\" \"c%d\" {\n    run = %q\n", i, t.command)
		if t.check != "" {
			fmt.Fprintf(&site, "    only_if = %q\n", t.check)
		}
		site.WriteString("  }\n")
	}
	site.WriteString("}\n")
	path := f.path("site_" + strings.ReplaceAll(w.key(), "/", "_") + ".hcl")
	if err := os.WriteFile(path, []byte(site.String()), 0o600); err != nil {
		return nil
	}
	common := []string{"--state-dir", f.path("state"), "--parallelism", "500"}
	if w.name == "true" {
		return [][]string{append([]string{program, "exec", "-i", path}, append(common, "all", "--", "true")...)}
	}
	return [][]string{append([]string{program, "apply", path, "--auto-approve"}, common...)}
}

// mux does the work with OpenSSH's client and one shared connection per host.
func mux(ctx context.Context, f *farm, w workload) error {
	p := pool.New().WithContext(ctx)
	steps := w.steps(f)
	for i, address := range f.Addresses[:w.hosts] {
		p.Go(func(ctx context.Context) error {
			socket := f.path(fmt.Sprintf("mux_%d", i))
			ssh := func(args ...string) error {
				argv := append([]string{"-F", f.path("ssh_config"), "-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o", "ControlPath=" + socket}, args...)
				out, err := exec.CommandContext(ctx, "ssh", argv...).CombinedOutput() //nolint:gosec // the benchmark's own command line
				if err != nil {
					return fmt.Errorf("ssh: %w: %s", err, out)
				}
				return nil
			}
			for _, step := range steps {
				if err := ssh(address, step); err != nil {
					return err
				}
			}
			return ssh("-O", "exit", address)
		})
	}
	return p.Wait()
}

// clush runs each step on all hosts with ClusterShell.
func clush(f *farm, w workload) [][]string {
	var lines [][]string
	for _, step := range w.steps(f) {
		lines = append(lines, []string{
			"clush", "-S", "-q", "-f", fmt.Sprint(w.hosts), "-o", "-F " + f.path("ssh_config"), "-w", strings.Join(f.Addresses[:w.hosts], ","), step,
		})
	}
	return lines
}

// maxAnsible is the largest number of hosts that Ansible is measured with: more takes minutes on a small machine.
const maxAnsible = 10

// ansible writes a playbook and an inventory, tuned: pipelining, a process for each host, a shared connection.
func ansible(f *farm, w workload) [][]string {
	if w.hosts > maxAnsible {
		return nil
	}
	var book strings.Builder
	book.WriteString("- hosts: all\n  gather_facts: false\n  tasks:\n")
	for _, name := range w.files {
		fmt.Fprintf(&book, "  - copy: {src: %s, dest: %s, mode: '0644'}\n", f.path(name), f.path(name))
	}
	for _, t := range w.tasks {
		line := t.command
		if t.check != "" {
			line = "if " + t.check + "; then " + t.command + "; fi"
		}
		fmt.Fprintf(&book, "  - shell: %q\n", line)
	}
	config := fmt.Sprintf("[defaults]\nforks = %d\ninventory = %s\ninterpreter_python = /usr/bin/python3\n[ssh_connection]\npipelining = true\nssh_args = -F %s -o ControlMaster=auto -o ControlPersist=60 -o Compression=no\ncontrol_path_dir = %s\n",
		w.hosts, f.path("ansible_hosts"), f.path("ssh_config"), f.Dir)
	for name, text := range map[string]string{
		"playbook.yml": book.String(), "ansible.cfg": config, "ansible_hosts": strings.Join(f.Addresses[:w.hosts], "\n") + "\n",
	} {
		if err := os.WriteFile(f.path(name), []byte(text), 0o600); err != nil {
			return nil
		}
	}
	return [][]string{{"env", "ANSIBLE_CONFIG=" + f.path("ansible.cfg"), "ansible-playbook", f.path("playbook.yml")}}
}
