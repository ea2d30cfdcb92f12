package runbooks

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/internal/diag"
)

var settingsSchema = &hcl.BodySchema{
	Attributes: []hcl.AttributeSchema{{Name: "required_version"}},
	Blocks:     []hcl.BlockHeaderSchema{sshBlock},
}

// readSettings reads the pxrun blocks. There may be one in each file: each file may have its own requirement.
func (l *loader) readSettings() {
	for _, b := range l.decls.settings {
		content, diags := contentOf(b, settingsSchema)
		l.report(diags)
		l.settings = append(l.settings, content)
		var want string
		at, ok := l.attributes(content, constantScope).text("required_version", &want)
		if !ok {
			continue
		}
		mine, _, released := parseVersion(l.opts.Version)
		fits, err := mine.meets(want)
		switch {
		case err != nil:
			l.report(diag.Error("Invalid version constraint", sentence(err.Error()), at))
		case released && !fits:
			l.report(diag.Error("Unsuitable version", fmt.Sprintf("These files need pxrun %s, and this is %s. Install a version that fits.", want, mine), at))
		}
	}
}
