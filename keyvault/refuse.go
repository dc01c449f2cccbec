package keyvault

import (
	"regexp"
	"strings"

	"github.com/visage-face/visage"
)

// The refusals of the contract, §A8 for keys and part B for vaults. The inner code is InnerCode.

func invalid(format string, args ...any) error {
	return visage.Refuse(visage.Invalid, "BadParameter", format, args...)
}

func forbidden(inner, format string, args ...any) error {
	r := visage.Refuse(visage.Denied, "Forbidden", format, args...)
	r.InnerCode = inner
	return r
}

func conflict(inner, format string, args ...any) error {
	r := visage.Refuse(visage.Conflict, "Conflict", format, args...)
	r.InnerCode = inner
	return r
}

func noKey(ref Ref) error {
	what := ref.Name
	if ref.Version != "" {
		what += "/" + ref.Version
	}
	return visage.Refuse(visage.NotFound, "KeyNotFound",
		"A key with (name/id) %s was not found in this key vault. One that was deleted is among the deleted keys "+
			"until purged.",
		what)
}

func notDeleted(ref Ref) error {
	return visage.Refuse(visage.NotFound, "KeyNotFound", "Deleted key %s was not found in this key vault.", ref.Name)
}

func noVault(name string) error {
	return visage.Refuse(visage.NotFound, "VaultNotFound", "There is no key vault %q.", name)
}

var (
	keyNamePattern   = regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`)
	vaultNamePattern = regexp.MustCompile(`^[a-zA-Z][0-9a-zA-Z-]{1,22}[0-9a-zA-Z]$`)
)

// CheckKeyName refuses what cannot be the name of a key: BadParameter.
func CheckKeyName(name string) error {
	if !keyNamePattern.MatchString(name) {
		return invalid("The name of a key must have 1 to 127 letters, digits and hyphens.")
	}
	return nil
}

// CheckVaultName refuses what cannot be the name of a vault: VaultNameNotValid.
func CheckVaultName(name string) error {
	if !vaultNamePattern.MatchString(name) || strings.Contains(name, "--") {
		return visage.Refuse(visage.Invalid, "VaultNameNotValid",
			"The name of a key vault must have 3 to 24 letters, digits and single hyphens, begin with a letter "+
				"and end with a letter or digit.")
	}
	return nil
}

// checkTags holds the bounds of the contract for keys, §A1; vaults have those of visage.CheckTags.
func checkTags(tags map[string]string) error {
	const mostTags, longest = 15, 256
	if len(tags) > mostTags {
		return invalid("There are %d tags; at most %d are possible.", len(tags), mostTags)
	}
	for name, value := range tags {
		if n := visage.UTF16Len(name); n == 0 || n > longest {
			return invalid("The name of a tag must have 1 to %d characters.", longest)
		}
		if visage.UTF16Len(value) > longest {
			return invalid("The value of a tag may have at most %d characters.", longest)
		}
	}
	return nil
}
