package upgrade

import (
	"errors"
	"testing"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/testkit/labkit"
	"github.com/pxrun/pxrun/lab"
	labguest "github.com/pxrun/pxrun/lab/guest"
	"github.com/stretchr/testify/require"
)

const laterKernel = "7.0.1-1-pve"

func nobody() string { return "" }

// rebootLab is a formed cluster of three nodes whose pve2 is worked on.
func rebootLab(t *testing.T, change func(*lab.Spec)) *labkit.Target {
	t.Helper()
	tgt := labkit.New(t, 3, change)
	tgt.Form()
	tgt.Of = tgt.All[1]
	tgt.All = tgt.All[1:2]
	return tgt
}

func summaries(t *testing.T, tgt *labkit.Target, hcl string) []string {
	t.Helper()
	changes, err := tgt.Plan(reboot(nobody), hcl)
	require.NoError(t, err)
	return testkit.Summaries(changes)
}

func TestRebootOnALab(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"8.4.1", "9.1.8"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			tgt := rebootLab(t, func(s *lab.Spec) {
				for i := range s.Hosts {
					s.Hosts[i].PVE = version
				}
			})
			require.Empty(t, summaries(t, tgt, ""), "there is no reason")
			require.Empty(t, summaries(t, tgt, `mode = "never"`))
			require.Equal(t, []string{"restart pve2: a restart is asked for in any case"}, summaries(t, tgt, `mode = "always"`))

			tgt.Must("pve2", "touch /boot/vmlinuz-"+laterKernel+" /boot/initrd.img-"+laterKernel)
			require.Empty(t, summaries(t, tgt, `mode = "never"`))
			before := tgt.Lab.Machine("pve2").BootID()
			made := tgt.Converge(reboot(nobody), "")
			require.Len(t, made, 1)
			require.Contains(t, made[0], "restart pve2: it runs kernel ")
			require.Contains(t, made[0], ", and the next start takes "+laterKernel)
			require.NotEqual(t, before, tgt.Lab.Machine("pve2").BootID())
			require.Equal(t, laterKernel+"\n", tgt.Must("pve2", "uname -r"))
			kernel, phase := false, false
			for _, r := range tgt.Records() {
				switch r := r.(type) {
				case module.Version:
					kernel = r.Package == "kernel" && r.After == laterKernel
				case module.Phase:
					phase = r.Name == "reboot" && r.Took > 0
				}
			}
			require.True(t, kernel)
			require.True(t, phase)
		})
	}
}

// A run that goes on after a crash finds the restart done, also where one is asked for in any case.
func TestRebootHappensOnceInARun(t *testing.T) {
	t.Parallel()
	tgt := rebootLab(t, nil)
	tgt.Converge(reboot(nobody), `mode = "always"`)
	require.Empty(t, summaries(t, tgt, `mode = "always"`))
	tgt.RunID = "run2"
	require.Len(t, summaries(t, tgt, `mode = "always"`), 1)
}

func TestRebootThatWasPlannedBeforeTheNodeRestartedDoesNothing(t *testing.T) {
	t.Parallel()
	tgt := rebootLab(t, nil)
	changes, err := tgt.Plan(reboot(nobody), `mode = "always"`)
	require.NoError(t, err)
	require.NoError(t, tgt.Apply(changes))
	boot := tgt.Lab.Machine("pve2").BootID()
	require.NoError(t, tgt.Apply(changes))
	require.Equal(t, boot, tgt.Lab.Machine("pve2").BootID())
}

func TestRebootIsRefused(t *testing.T) {
	t.Parallel()
	tgt := rebootLab(t, nil)
	tgt.Must("pve2", "touch /boot/vmlinuz-"+laterKernel+" /boot/initrd.img-"+laterKernel)
	refused := func(hcl string, parts ...string) {
		t.Helper()
		_, err := tgt.Plan(reboot(nobody), hcl)
		for _, part := range parts {
			require.ErrorContains(t, err, part)
		}
		var r *module.Refusal
		require.True(t, errors.As(err, &r), "%v is no refusal", err)
	}
	require.NoError(t, tgt.Lab.AddGuest(t.Context(), "pve2", labguest.Spec{ID: 100, Running: true}))
	refused("", "pve2: refused: restart pve2", "saw: vm:100 running on it", `guests = ["vm:100"]`)
	require.Len(t, summaries(t, tgt, `guests = ["vm:100"]`), 1)
	tgt.Must("pve2", "qm stop 100")

	tgt.Fault(lab.Fault{Kind: "power-off", Target: "pve3"})
	tgt.Eventually("pve1", `grep -q '"online": 0' /etc/pve/.members`)
	refused(`ignore = ["others"]`, "1 of 3 votes stay without pve2, 2 are needed")
	require.NoError(t, tgt.Lab.ClearFault(0))
	tgt.Eventually("pve1", `[ "$(grep -c '"online": 1' /etc/pve/.members)" = 3 ] && stat -c %a /etc/pve/local | grep -q 755`)
	tgt.Eventually("pve3", `stat -c %a /etc/pve/local | grep -q 755 && corosync-quorumtool -s`)

	_, err := tgt.Plan(reboot(func() string { return tgt.Lab.Machine("pve2").BootID() }), "")
	require.ErrorContains(t, err, "pxrun runs on it, or in a container of it")

	tgt.All = tgt.Whole.Hosts
	refused("", "the task is for pve1, pve3 too, and works on all of its hosts at once")
}

// The gates are read again right before: what has come since the plan counts.
func TestRebootReadsTheGatesAgain(t *testing.T) {
	t.Parallel()
	tgt := rebootLab(t, nil)
	changes, err := tgt.Plan(reboot(nobody), `mode = "always"`)
	require.NoError(t, err)
	boot := tgt.Lab.Machine("pve2").BootID()
	require.NoError(t, tgt.Lab.AddGuest(t.Context(), "pve2", labguest.Spec{ID: 100, Running: true}))
	require.ErrorContains(t, tgt.Apply(changes), "vm:100 running on it")
	require.Equal(t, boot, tgt.Lab.Machine("pve2").BootID())
	closed := false
	for _, r := range tgt.Records() {
		if reading, ok := r.(module.Reading); ok && reading.Gate == "guests" {
			closed = !reading.OK
		}
	}
	require.True(t, closed)
}

func TestRebootTakesGuestsDownThatItMay(t *testing.T) {
	t.Parallel()
	tgt := rebootLab(t, nil)
	require.NoError(t, tgt.Lab.AddGuest(t.Context(), "pve2", labguest.Spec{ID: 200, Type: "lxc", Running: true, OnBoot: true}))
	tgt.Converge(reboot(nobody), "mode = \"always\"\nguests = [\"ct:200\"]")
	tgt.Eventually("pve2", "pct status 200 | grep -q running")
	down := false
	for _, r := range tgt.Records() {
		if d, ok := r.(module.Downtime); ok {
			down = d.Guest == "ct 200" && d.Took > 0
		}
	}
	require.True(t, down)
}

func TestRebootFaults(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault lab.Fault
		hcl   string
		want  []string // of the error; none: it succeeds
		after string   // holds on pve2 afterwards
	}{
		"comes late":            {fault: lab.Fault{Kind: "slow", Value: "8m", Phase: "boot:start"}, after: "uname -r | grep -q " + laterKernel},
		"never comes":           {fault: lab.Fault{Kind: "hang", Phase: "boot:start"}, hcl: `return_within = "5m"`, want: []string{"pve2 has not come back within 5m0s", "saw: SSH from here: ", "from pve1: 192.0.2.12 answers no ping, no SSH server talks", "from pve1: the cluster does not see it", "pxrun release pve2"}},
		"on the old kernel":     {fault: lab.Fault{Kind: "old-kernel"}, want: []string{"pve2 came back, and runs kernel 6.17.2-1-pve instead of " + laterKernel, "proxmox-boot-tool refresh"}},
		"a shutdown that hangs": {fault: lab.Fault{Kind: "hang", Match: "^systemctl reboot"}, hcl: `return_within = "4m"`, want: []string{"pve2 was told to restart and has not gone down within 4m0s", "systemctl list-jobs"}},
		"pmxcfs does not mount": {fault: lab.Fault{Kind: "unit-fails", Value: "pve-cluster", Phase: "boot:start"}, after: "uname -r | grep -q " + laterKernel},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tgt := rebootLab(t, nil)
			tgt.Must("pve2", "touch /boot/vmlinuz-"+laterKernel+" /boot/initrd.img-"+laterKernel)
			changes, err := tgt.Plan(reboot(nobody), test.hcl)
			require.NoError(t, err)
			test.fault.Target = "pve2"
			tgt.Fault(test.fault)
			err = tgt.Apply(changes)
			for _, part := range test.want {
				require.ErrorContains(t, err, part)
			}
			if len(test.want) == 0 {
				require.NoError(t, err)
				tgt.Must("pve2", test.after)
			}
		})
	}
}

func TestRebootDoesNotTryTheSameKernelAgainAndAgain(t *testing.T) {
	t.Parallel()
	tgt := rebootLab(t, nil)
	tgt.Must("pve2", "touch /boot/vmlinuz-"+laterKernel+" /boot/initrd.img-"+laterKernel)
	tgt.Fault(lab.Fault{Kind: "old-kernel", Target: "pve2"})
	changes, err := tgt.Plan(reboot(nobody), "")
	require.NoError(t, err)
	require.ErrorContains(t, tgt.Apply(changes), "instead of "+laterKernel)
	_, err = tgt.Plan(reboot(nobody), "")
	require.ErrorContains(t, err, "this run has restarted it, and it came back on kernel 6.17.2-1-pve")
}

func TestRebootWithAKernelToFallBackTo(t *testing.T) {
	t.Parallel()
	const hcl = "fallback_kernel = true\nreturn_within = \"5m\""
	for _, esp := range []bool{false, true} {
		for name, test := range map[string]struct {
			fault *lab.Fault
			back  bool // on the old kernel after its power was switched off and on
		}{
			"it comes":          {},
			"it hangs late":     {fault: &lab.Fault{Kind: "kernel-hang", Value: ":late"}, back: true},
			"it hangs at once":  {fault: &lab.Fault{Kind: "kernel-hang"}},
			"without a network": {fault: &lab.Fault{Kind: "power-off", Phase: "boot:start"}},
		} {
			if esp && test.fault != nil && !test.back {
				continue
			}
			t.Run(name+map[bool]string{true: " with an ESP"}[esp], func(t *testing.T) {
				t.Parallel()
				tgt := rebootLab(t, func(s *lab.Spec) { s.Hosts[1].ESP = esp })
				tgt.Must("pve2", "touch /boot/vmlinuz-"+laterKernel+" /boot/initrd.img-"+laterKernel)
				changes, err := tgt.Plan(reboot(nobody), hcl)
				require.NoError(t, err)
				require.Equal(t, []string{"pve2/pin", "pve2/reboot", "pve2/unpin"}, ids(changes))
				require.NotNil(t, changes[0].Undo)
				require.Equal(t, []string{"pve2/pin"}, changes[2].Undoes)
				if test.fault == nil {
					require.NoError(t, tgt.Apply(changes))
					require.Equal(t, laterKernel+"\n", tgt.Must("pve2", "uname -r; cat /etc/kernel/*-pin "+pinsFile+" 2>/dev/null; true"))
					require.Empty(t, summaries(t, tgt, hcl))
					return
				}
				test.fault.Target = "pve2"
				tgt.Fault(*test.fault)
				require.ErrorContains(t, tgt.Apply(changes), "pve2 has not come back within 5m0s")
				m := tgt.Lab.Machine("pve2")
				m.PowerOff()
				m.PowerOn()
				if !test.back {
					require.NoError(t, tgt.Lab.ClearFault(0))
					m.PowerOff()
					m.PowerOn()
					tgt.Eventually("pve2", "uname -r | grep -q "+laterKernel)
					require.Equal(t, []string{"take the pins of kernels on pve2 back"}, summaries(t, tgt, hcl))
					return
				}
				tgt.Eventually("pve2", "uname -r | grep -q 6.17.2-1-pve")
				tgt.RunID = "run2"
				_, err = tgt.Plan(reboot(nobody), hcl)
				require.ErrorContains(t, err, "it came back on kernel 6.17.2-1-pve instead of "+laterKernel)
				// The undo that another run finds in the journal takes the pins back, twice if need be.
				for range 2 {
					tgt.Must("pve2", changes[0].Undo.Command.Script)
				}
				require.Equal(t, "6.17.2-1-pve\n", tgt.Must("pve2", "uname -r; cat /etc/kernel/*-pin "+pinsFile+" 2>/dev/null; true"))
				require.Len(t, summaries(t, tgt, ""), 1)
			})
		}
	}
}

// What a person has pinned is put back, and what a person has pinned meanwhile is left alone.
func TestPinsOfPeopleAreKept(t *testing.T) {
	t.Parallel()
	tgt := rebootLab(t, nil)
	tgt.Must("pve2", "touch /boot/vmlinuz-"+laterKernel+" /boot/initrd.img-"+laterKernel+" /boot/vmlinuz-8.0.1-1-pve /boot/initrd.img-8.0.1-1-pve; proxmox-boot-tool kernel pin "+laterKernel)
	require.Equal(t, []string{
		"pin kernel " + laterKernel + " for the next start of pve2, 6.17.2-1-pve for those after it",
		"restart pve2: it runs kernel 6.17.2-1-pve, and the next start takes " + laterKernel + ", to which it is pinned",
		"take the pins of kernels on pve2 back",
	}, tgt.Converge(reboot(nobody), "fallback_kernel = true"))
	require.Equal(t, laterKernel+"\n", tgt.Must("pve2", "cat /etc/kernel/proxmox-boot-pin"))

	require.NoError(t, pinKernels(t.Context(), tgt, "pve2", tgt.Lab.Machine("pve2").BootID(), laterKernel, "8.0.1-1-pve"))
	tgt.Must("pve2", "proxmox-boot-tool kernel pin 6.17.2-1-pve")
	require.NoError(t, unpinKernels(t.Context(), tgt, "pve2"))
	require.Equal(t, "6.17.2-1-pve\n", tgt.Must("pve2", "cat /etc/kernel/proxmox-boot-pin"))
}

func ids(changes []module.Change) []string {
	var out []string
	for _, c := range changes {
		out = append(out, c.ID)
	}
	return out
}
