package server_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	api "github.com/miekg/pkcs11"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/keysource/helper"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/test/keystores"
)

// TestMain is also the helper of key stores, which is the same program as the service.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == helper.Argument {
		if err := stores.ServeHelper(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(inMemory(m))
}

// inMemory runs the tests with their folders in memory if there is room: they have files synced thousands of times,
// which takes half of their time on a busy disk. Tests of full disks mount volumes of their own.
func inMemory(m *testing.M) int {
	const memory, room = "/dev/shm", 4 << 30
	if free, _, err := durable.Room(memory); err != nil || free < room {
		return m.Run()
	}
	dir, err := os.MkdirTemp(memory, "visage-server-")
	if err != nil {
		return m.Run()
	}
	defer os.RemoveAll(dir)
	if err := os.Setenv("TMPDIR", dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// hsm is a token of SoftHSM. A resource reaches the keys whose label has its principal.
type hsm struct {
	*keystores.HSM
	ids byte
}

func (h *hsm) describe(*testing.T) stores.Store {
	return stores.Store{
		Address: h.Address, Login: stores.Login{Method: "pin", SecretFile: h.PINFile},
		Helper: stores.Helper{Module: h.Module, Write: h.Writable, Environment: h.Environment},
	}
}

func (h *hsm) trust(*testing.T, issuer) {}

func (h *hsm) makeKey(_ *testing.T, name string) string {
	h.ids++
	h.MakeAES(name, string(rune(h.ids)), api.NewAttribute(api.CKA_DESTROYABLE, false))
	return name
}

// grant gives keys the label by which an identity finds them.
func (h *hsm) grant(_ *testing.T, who visage.PrincipalID, keys ...string) {
	for _, name := range keys {
		h.Set(name, api.NewAttribute(api.CKA_LABEL, h.label(who, name)))
		h.Set(h.label(who, name), api.NewAttribute(api.CKA_DECRYPT, true))
	}
}

func (h *hsm) label(who visage.PrincipalID, name string) string {
	return "visage-" + string(who) + "-" + name
}

func (h *hsm) revoke(t *testing.T, key string) {
	for _, label := range h.Labels() {
		if strings.HasSuffix(label, "-"+key) {
			h.Set(label, api.NewAttribute(api.CKA_DECRYPT, false))
		}
	}
}

func (h *hsm) rotate(*testing.T, string) string { return "" }

func TestHSM(t *testing.T) { walkArticle(t, &hsm{HSM: keystores.StartSoftHSM(t)}) }

func TestHSMOfOthers(t *testing.T) { walkOthers(t, &hsm{HSM: keystores.StartSoftHSM(t)}) }

func TestHSMTheft(t *testing.T) { walkTheft(t, &hsm{HSM: keystores.StartSoftHSM(t)}) }
