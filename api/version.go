package api

import (
	"regexp"
	"time"
)

var versionPattern = regexp.MustCompile(
	`(?i)^([0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,3}\.[0-9]{1,3})(-preview(\.[0-9]{1,3})?)?$`,
)

// ValidVersion reports whether text is a contract version as clients send it in api-version, in any case: a date or two
// numbers with a dot, such as 2025-09-01 or 7.6, optionally with "-preview" or "-preview.2". Every client sends the
// version that it was built for, and a plane answers all of them alike, so all possible versions are accepted.
func ValidVersion(text string) bool {
	parts := versionPattern.FindStringSubmatch(text)
	if parts == nil {
		return false
	}
	if len(parts[1]) == len(time.DateOnly) {
		_, err := time.Parse(time.DateOnly, parts[1])
		return err == nil
	}
	return true
}
