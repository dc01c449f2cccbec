// A PKCS#11 module that passes every call on to another one, and gives an answer of its own to the call that the
// environment names: FAULTY_MODULE is the other, FAULTY_CALL the place of a call in CK_FUNCTION_LIST (PKCS#11 2.40,
// section 5.4), FAULTY_ANSWER the number of its answer.
#include <dlfcn.h>
#include <stdlib.h>

typedef unsigned long word; // as long as a pointer and a CK_ULONG
typedef word (*call)(word, word, word, word, word, word);
typedef struct {
	unsigned char version[2];
	call calls[68];
} list;

static list *other, own;

static word pass(int place, word a, word b, word c, word d, word e, word f) {
	const char *of = getenv("FAULTY_CALL"), *answer = getenv("FAULTY_ANSWER");
	if (of != NULL && answer != NULL && *of != 0 && atoi(of) == place)
		return strtoul(answer, NULL, 10);
	return other->calls[place](a, b, c, d, e, f);
}

#define FAULTY(place) \
	static word call##place(word a, word b, word c, word d, word e, word f) { return pass(place, a, b, c, d, e, f); }
FAULTY(4)
FAULTY(12)
FAULTY(15)
FAULTY(18)
FAULTY(26)
FAULTY(33)
FAULTY(34)

word C_GetFunctionList(list **out) {
	void *module = dlopen(getenv("FAULTY_MODULE"), RTLD_NOW);
	word (*get)(list **) = module == NULL ? NULL : (word(*)(list **))dlsym(module, "C_GetFunctionList");
	if (get == NULL || get(&other) != 0)
		return 5; // CKR_GENERAL_ERROR
	own = *other;
	own.calls[4] = call4, own.calls[12] = call12, own.calls[15] = call15, own.calls[18] = call18;
	own.calls[26] = call26, own.calls[33] = call33, own.calls[34] = call34;
	*out = &own;
	return 0;
}
