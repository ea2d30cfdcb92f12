package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/pxrun/pxrun/internal/report"
	"github.com/spf13/cobra"
)

// Version is set by the linker for releases: -X github.com/pxrun/pxrun/cli.Version=1.2.3. Development builds have none
// and meet every required_version.
var Version = ""

func newVersionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the version and how it was built", GroupID: groupLook,
		Long: long("Shows pxrun's version, the revision it was built from, and the Go version and platform.", exitOK),
		Args: checked(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return runVersion(a) },
	}
}

// build is what the linker and the Go tool wrote into the binary.
type build struct {
	Type     string `json:"type"`
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Time     string `json:"time,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func buildInfo() build {
	b := build{Type: "version", Version: Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if b.Version == "" {
		b.Version = "development"
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value[:min(len(s.Value), 12)]
		case "vcs.modified":
			b.Modified = s.Value == "true"
		case "vcs.time":
			b.Time = s.Value
		}
	}
	return b
}

func runVersion(a *app) error {
	b := buildInfo()
	if a.global.json {
		return report.WriteObject(a.Out, b)
	}
	text := "pxrun " + b.Version
	if b.Revision != "" {
		text += " (" + b.Revision
		if b.Modified {
			text += ", modified"
		}
		text += ")"
	}
	_, err := fmt.Fprintf(a.Out, "%s\n%s %s\n", text, b.Go, b.Platform)
	return err
}
