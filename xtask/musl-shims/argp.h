/*
 * musl has no argp, and libelf needs none. But elfutils compiles two files with options of its
 * programs on the way to libelf, which nothing links: these are the declarations that they use.
 */
#include <errno.h>
#include <stdio.h>

typedef int error_t;

struct argp_state {
    char *name;
};

struct argp_option {
    const char *name;
    int key;
    const char *arg;
    int flags;
    const char *doc;
    int group;
};

struct argp {
    const struct argp_option *options;
    error_t (*parser)(int, char *, struct argp_state *);
    const char *args_doc, *doc;
    const void *children, *help_filter;
    const char *argp_domain;
};

#define OPTION_ARG_OPTIONAL 1
#define ARGP_ERR_UNKNOWN E2BIG
#define ARGP_HELP_SEE 4

void argp_help(const struct argp *, FILE *, unsigned, char *);
