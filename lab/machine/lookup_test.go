package machine_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestProgramsThatChangeAreFoundAnew(t *testing.T) {
	m := newWorld(t, "pve1").machines[0]
	check(t, m, []step{
		{"hostname; printf '#!/bin/sh\necho other\n' >/usr/local/bin/hostname; chmod +x /usr/local/bin/hostname; hostname", "pve1\nother\n", 0},
		{"chmod -x /usr/local/bin/hostname; hostname; chmod +x /usr/local/bin/hostname; hostname", "pve1\nother\n", 0},
		{"printf '#!/bin/sh\necho third\n' >/usr/local/bin/hostname; hostname; rm /usr/local/bin/hostname; hostname", "third\npve1\n", 0},
		{"exec 3>/usr/local/bin/nproc; chmod +x /usr/local/bin/nproc; nproc; printf '#!/bin/sh\necho many\n' >&3; exec 3>&-; nproc", "many\n", 0},
		{"rm /usr/local/bin/nproc; mv /usr/bin/nproc /usr/bin/away; nproc 2>/dev/null; echo $?; mv /usr/bin/away /usr/bin/nproc; nproc", "127\n4\n", 0},
		{"ln -s /tmp/late /usr/local/bin/late; late 2>/dev/null; echo $?; cp /bin/true /tmp/late; late; echo $?; rm /tmp/late; late 2>/dev/null; echo $?", "127\n0\n127\n", 0},
	})
}

func TestScriptsWithErrorsRunUpToThem(t *testing.T) {
	m := newWorld(t, "pve1").machines[0]
	for range 2 {
		out, code := sh(t, m, "echo one\necho two\nif then\n")
		require.Equal(t, 2, code)
		require.Contains(t, out, "one\ntwo\n")
		require.Contains(t, out, "Syntax error")
	}
}
