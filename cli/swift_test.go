package cli_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"syscall"
	"testing"
)

// swiftEnv names a program without the race detector, where the tests have it.
const swiftEnv = "PXRUN_TEST_SWIFT"

// A program with the race detector waits a second before it ends, for reports of goroutines that are still at work. Nobody
// waits for them in the hundreds of runs of these tests.
const (
	raceEnv    = "GORACE"
	endsAtOnce = "atexit_sleep_ms=0"
)

// swift is a program without the race detector where the tests have it, else "". Tests that run it some hundred times, and
// labs that are processes of their own, would take many minutes with it; every other run of the command line has it, and the
// lab has it in its own tests and those of the modules.
func swift() string { return os.Getenv(swiftEnv) }

// suite are the tests, with a swift program if they need one.
type suite struct{ *testing.M }

func (s suite) Run() int {
	if !raceDetector() {
		return s.M.Run()
	}
	folder, err := os.MkdirTemp("", "pxrun-swift-")
	if err == nil {
		defer os.RemoveAll(folder)
		err = errors.Join(s.build(filepath.Join(folder, "pxrun")), os.Setenv(raceEnv, endsAtOnce))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return s.M.Run()
}

func (suite) build(binary string) error {
	cmd := exec.Command("go", "build", "-o", binary, "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return os.Setenv(swiftEnv, binary)
}

// swiftLab goes on as the swift program when a lab is to be a process of its own.
func swiftLab() {
	binary := swift()
	if binary == "" || len(os.Args) < 3 || os.Args[1] != "lab" || os.Args[2] != "up" {
		return
	}
	if err := syscall.Exec(binary, os.Args, os.Environ()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// raceDetector reports whether the tests have it.
func raceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
