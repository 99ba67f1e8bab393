/* soft.c - a program built without any hardening: what the check has to find. */
int main(void) {
    return 0;
}
