/* One of many copies of a library: calls itself in the next one, with two pages of stack in between. */
typedef void (*leaf_fn)(void *);
typedef void (*step_fn)(void **steps, int count, int left, leaf_fn leaf, void *of);

void step(void **steps, int count, int left, leaf_fn leaf, void *of) {
    volatile char room[8192];
    room[0] = (char)left;
    if (left == 0) leaf(of);
    else ((step_fn)steps[left % count])(steps, count, left - 1, leaf, of);
    room[1] = room[0];
}
