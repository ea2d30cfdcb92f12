package cli

import "strings"

// long is a command's help text with its exit codes. The codes 3 and 130 are possible everywhere.
func long(text string, codes ...int) string {
	return strings.TrimSpace(text) + "\n\n" + exitHelp(append(codes, exitInvalid)...)
}
