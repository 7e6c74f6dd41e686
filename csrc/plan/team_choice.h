/* Whether what runs again and again is faster on a team or on one thread, found by measuring now and then. What it costs threads to
 * wake, to meet and to hand data to each other depends on where their cores are, on what else runs there and on how long ago
 * they were used; no count of operations tells. (src/dlcore/team.py does the same for training runs, whose steps are many.) */
#ifndef DLC_PLAN_TEAM_CHOICE_H
#define DLC_PLAN_TEAM_CHOICE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct dlc_team_times {
    int64_t sum_ns, longest_ns;
} dlc_team_times;

typedef struct dlc_team_choice {
    bool is_alone;              /* what runs take that are not measured */
    int look;                   /* the measured run in hand; LOOK_RUNS: none */
    dlc_team_times team, alone; /* of the measured runs so far */
    int64_t until_look_ns;      /* of running */
    int64_t pause_ns;           /* from one look to the next */
} dlc_team_choice;

/* Alone, until runs have taken some milliseconds: what runs but a few times starts no threads. */
dlc_team_choice dlc_team_choice_begin(void);
/* Whether the next run is one thread's. */
bool dlc_team_choice_is_alone(const dlc_team_choice *choice);
/* That run took so long. */
void dlc_team_choice_note(dlc_team_choice *choice, int64_t ns);

#endif
