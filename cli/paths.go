package cli

import (
	"os"
	"path/filepath"
	"strings"
)

// absolute makes paths that hold in any folder.
func absolute(paths []string) ([]string, error) {
	var all []string
	for _, p := range paths {
		abs, err := filepath.Abs(p)
		if err != nil {
			return nil, err
		}
		all = append(all, abs)
	}
	return all, nil
}

func exists(p string) bool {
	_, err := os.Stat(p)
	return err == nil
}

// looksLikePath tells a file that is not there from the name of a runbook.
func looksLikePath(arg string) bool {
	return strings.ContainsAny(arg, `/\`) || strings.HasSuffix(arg, ".hcl") || strings.HasPrefix(arg, ".") || strings.HasPrefix(arg, "~")
}
