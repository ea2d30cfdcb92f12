//go:build unix

package main

import (
	"os"
	"syscall"
)

// maxRSS is the largest resident size of a finished process in KiB.
func maxRSS(s *os.ProcessState) int64 {
	if r, ok := s.SysUsage().(*syscall.Rusage); ok {
		return r.Maxrss
	}
	return 0
}
