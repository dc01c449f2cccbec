package face

// Change is what an update changes; nil leaves a field as it is. The limits are those of Creation.
type Change struct {
	Name     *string
	UserData *string
}

// check refuses a name or userData outside the limits.
func (c Change) check() error {
	if c.Name != nil {
		if err := checkName(*c.Name); err != nil {
			return err
		}
	}
	return checkUserData(c.UserData, mostUserData)
}

// apply sets the fields that the change gives.
func (c Change) apply(name *string, userData **string) {
	if c.Name != nil {
		*name = *c.Name
	}
	if c.UserData != nil {
		*userData = c.UserData
	}
}

func checkName(name string) error {
	if n := units(name); n < 1 || n > mostName {
		return badArgument("The name must have 1 to %d characters; this one has %d.", mostName, n)
	}
	return checkText("name", name)
}

func checkUserData(data *string, most int) error {
	if data == nil {
		return nil
	}
	if n := units(*data); n > most {
		return badArgument("The userData may have at most %d characters; this one has %d.", most, n)
	}
	return checkText("userData", *data)
}
