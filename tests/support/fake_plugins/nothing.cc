// A library that is not ours, and the one that another needs and that is gone when it is opened.
extern "C" int trireme_fake_nothing() { return 0; }
