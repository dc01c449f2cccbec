package visage

// Principal is who a request comes from, as far as it has been proved.
type Principal struct {
	Method   string     // how it was proved: "key"
	KeyName  string     // "Key1" or "Key2" when Method is "key"
	Resource ResourceID // the resource the credential belongs to; zero for none
}
