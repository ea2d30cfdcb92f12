package modules_test

import (
	"testing"

	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/modules"
)

func TestEveryModuleIsDeclaredInFull(t *testing.T) {
	testkit.CheckModules(t, modules.All())
}
