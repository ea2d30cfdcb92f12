package cli_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pxrun/pxrun/cli"
	"github.com/pxrun/pxrun/lab"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(suite{m}, map[string]func(){
		"pxrun": func() {
			swiftLab()
			os.Exit(cli.Main(os.Args[1:], cli.SystemStreams()))
		},
	})
}

// TestScripts runs the built command line. Scripts in testdata/script name what they show; see README.md there.
func TestScripts(t *testing.T) {
	examples, err := filepath.Abs("../examples")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true, UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			state := filepath.Join(env.WorkDir, ".state")
			home := filepath.Join(env.WorkDir, ".home")
			env.Setenv("EXAMPLES", examples)
			env.Setenv("PXRUN_STATE_DIR", state)
			env.Setenv("HOME", home)
			env.Setenv("LC_ALL", "C.UTF-8")
			env.Setenv("TERM", "xterm")
			env.Setenv(swiftEnv, swift())
			env.Setenv(raceEnv, os.Getenv(raceEnv))
			env.Defer(func() { endLabs(state) })
			return os.MkdirAll(home, 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": exitCode, "await": await, "secretless": secretless, "bigfile": bigFile, "writes": writes,
		},
	})
}

// endLabs takes down what a script left running.
func endLabs(state string) {
	dirs, _ := filepath.Glob(filepath.Join(state, "lab", "*"))
	for _, dir := range dirs {
		access, err := lab.LoadAccess(dir)
		if err != nil || access.PID == os.Getpid() {
			continue
		}
		// The number of a lab that was killed may be that of another process by now.
		command, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(access.PID), "cmdline"))
		if strings.Contains(string(command), "\x00lab\x00up\x00") {
			_ = syscall.Kill(access.PID, syscall.SIGTERM)
		}
	}
}

// exitCode runs a command that must end with a status: code 3 pxrun validate x.hcl.
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code STATUS COMMAND [ARGUMENT...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var ended *exec.ExitError
	switch {
	case errors.As(err, &ended):
		got = ended.ExitCode()
	default:
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("%s ended with %d, not %d\n[stdout]\n%s[stderr]\n%s", strings.Join(args[1:], " "), got, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// await repeats a command until its output matches: await 'pve3 .*failed' pxrun runs show.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await PATTERN COMMAND [ARGUMENT...]")
	}
	wanted, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	deadline := time.NewTimer(2 * time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_ = ts.Exec(args[1], args[2:]...) // it may fail until it succeeds
		if out := ts.ReadFile("stdout") + ts.ReadFile("stderr"); wanted.MatchString(out) {
			return
		} else {
			select {
			case <-tick.C:
			case <-deadline.C:
				ts.Fatalf("%s never showed %q; last:\n%s", strings.Join(args[1:], " "), args[0], out)
			}
		}
	}
}

// secretless fails if a text is in the last output or in any file of the state folder.
func secretless(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: secretless TEXT")
	}
	for _, name := range []string{"stdout", "stderr"} {
		if strings.Contains(ts.ReadFile(name), args[0]) {
			ts.Fatalf("%s shows the secret:\n%s", name, ts.ReadFile(name))
		}
	}
	state := ts.Getenv("PXRUN_STATE_DIR")
	ts.Check(filepath.WalkDir(state, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(content), args[0]) {
			ts.Fatalf("%s holds the secret", path)
		}
		return err
	}))
}

// writes forgets what was written in the labs, or fails if anything was since: writes forget, writes none.
func writes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || args[0] != "forget" && args[0] != "none" {
		ts.Fatalf("usage: writes forget|none")
	}
	files, err := filepath.Glob(filepath.Join(ts.Getenv("PXRUN_STATE_DIR"), "lab", "*", "lab.json"))
	ts.Check(err)
	for _, file := range files {
		access, err := lab.LoadAccess(filepath.Dir(file))
		ts.Check(err)
		made, err := access.Writes(context.Background(), args[0] == "forget")
		ts.Check(err)
		made = slices.DeleteFunc(made, func(w lab.Write) bool { return w.User == "" }) // daemons write all the time
		if args[0] == "none" && len(made) > 0 {
			ts.Fatalf("written: %+v", made)
		}
	}
}

// bigFile writes a file of so many bytes: bigfile NAME BYTES TEXT, the text being repeated.
func bigFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: bigfile NAME BYTES TEXT")
	}
	size, err := strconv.Atoi(args[1])
	ts.Check(err)
	text := strings.Repeat(args[2]+"\n", size/(len(args[2])+1)+1)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text[:size]), 0o600))
}
