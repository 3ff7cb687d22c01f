/* A driver in small, as a test of one would be: bring up an SMMUv3, map, translate, take a fault, recover from a global error. It knows registers,
 * memory and interrupts alone (IHI 0070); the device side is smmu_wizard_dma(). */
#include "smmu_wizard.h"

#define SMMU 0x09050000ull
#define CR0 0x20
#define CR0ACK 0x24
#define CR2 0x2c
#define IRQ_CTRL 0x50
#define GERROR 0x60
#define GERRORN 0x64
#define STRTAB_BASE 0x80
#define STRTAB_BASE_CFG 0x88
#define CMDQ_BASE 0x90
#define CMDQ_PROD 0x98
#define CMDQ_CONS 0x9c
#define EVENTQ_BASE 0xa0
#define EVENTQ_IRQ_CFG0 0xb0
#define EVENTQ_IRQ_CFG1 0xb8
#define EVENTQ_PROD 0x100a8
#define EVENTQ_CONS 0x100ac

#define STREAMS 0x40100000ull
#define CONTEXT 0x40110000ull
#define TABLES 0x40200000ull
#define COMMANDS 0x40300000ull
#define EVENTS 0x40310000ull
#define MESSAGE 0x40320000ull
#define SYNCED 0x40320008ull
#define PAGE 0x50000000ull
#define IOVA 0x80000000ull
#define SID 5u

static struct smmu_wizard s;
static unsigned int prod, interrupts;

#define CHECK(what)                                                            \
    do {                                                                       \
        if (!(what)) {                                                         \
            fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #what, s.error); \
            exit(1);                                                           \
        }                                                                      \
    } while (0)

static void store(uint64_t where, uint64_t word) { smmu_wizard_writeq(&s, where, word); }

static void told(void *opaque, const char *line)
{
    (void)opaque;
    if (!strncmp(line, "MSI smmu0 eventq ", 17))
        interrupts++;
}

static void command(uint64_t low, uint64_t high)
{
    uint64_t words[2] = { low, high };

    smmu_wizard_write(&s, COMMANDS + 16 * (prod & 7), words, sizeof words);
    prod = (prod + 1) & 15;
    smmu_wizard_writel(&s, SMMU + CMDQ_PROD, prod);
}

/* CMD_SYNC with CS = SIG_IRQ: the message says that everything before it is complete (4.7.3). */
static void sync(uint32_t value)
{
    command(0x46 | 1ull << 12 | (uint64_t)value << 32, SYNCED);
    CHECK(smmu_wizard_readl(&s, SYNCED) == value);
}

static void bring_up(void)
{
    smmu_wizard_writel(&s, SMMU + CR0, 0);
    smmu_wizard_writel(&s, SMMU + CR2, 2);                        /* RECINVSID */
    smmu_wizard_writeq(&s, SMMU + STRTAB_BASE, STREAMS);
    smmu_wizard_writel(&s, SMMU + STRTAB_BASE_CFG, 4);            /* linear, 16 StreamIDs */
    smmu_wizard_writeq(&s, SMMU + CMDQ_BASE, COMMANDS | 3);
    smmu_wizard_writeq(&s, SMMU + EVENTQ_BASE, EVENTS | 3);
    smmu_wizard_writeq(&s, SMMU + EVENTQ_IRQ_CFG0, MESSAGE);
    smmu_wizard_writel(&s, SMMU + EVENTQ_IRQ_CFG1, 0x2a);
    smmu_wizard_writel(&s, SMMU + IRQ_CTRL, 4);
    smmu_wizard_writel(&s, SMMU + CR0, 0xc);                      /* the queues first */
    CHECK(smmu_wizard_readl(&s, SMMU + CR0ACK) == 0xc);
    command(0x04, 31);                                            /* CMD_CFGI_ALL */
    command(0x30, 0);                                             /* CMD_TLBI_NSNH_ALL */
    sync(1);
    smmu_wizard_writel(&s, SMMU + CR0, 0xd);
    CHECK(smmu_wizard_readl(&s, SMMU + CR0ACK) == 0xd);
}

static void map(void)
{
    uint64_t attributes = 0x703 | 1ull << 11 | 1ull << 54 | 1ull << 53 | 1ull << 6;  /* page, AF, ISH, nG, XN, AP[1] */

    store(TABLES, (TABLES + 0x1000) | 3);                         /* level 1: 39 bits */
    store(TABLES + 8 * (IOVA >> 30), (TABLES + 0x1000) | 3);
    store(TABLES + 0x1000, (TABLES + 0x2000) | 3);                /* level 2 */
    store(TABLES + 0x2000, PAGE | attributes);                    /* level 3 */
    /* T0SZ 25, 4 KiB, IR0 OR0 write-back, SH0 inner, EPD1, V, IPS 48 bits, AA64, R, A, ASET, ASID 1 */
    store(CONTEXT, 25 | 1ull << 8 | 1ull << 10 | 3ull << 12 | 1ull << 30 | 1ull << 31 | 5ull << 32 | 1ull << 41 | 3ull << 45 | 1ull << 47 | 1ull << 48);
    store(CONTEXT + 8, TABLES);
    store(CONTEXT + 24, 0xff);                                    /* MAIR: write-back */
    store(STREAMS + 64 * SID + 8, 1ull << 44);                    /* SHCFG: incoming */
    store(STREAMS + 64 * SID, CONTEXT | 5 << 1 | 1);              /* stage 1 */
    command(0x03 | (uint64_t)SID << 32, 1);                       /* CMD_CFGI_STE */
    sync(2);
}

int main(int argc, char **argv)
{
    struct smmu_wizard_dma dma;
    char out[] = "hello", in[6] = "";
    uint64_t record[4];

    CHECK(!smmu_wizard_open(&s, NULL));
    CHECK(!smmu_wizard_hear(&s, told, NULL));
    bring_up();
    map();

    CHECK(!smmu_wizard_dma(&s, 1, SID, IOVA + 0x10, out, sizeof out, NULL, &dma));
    CHECK(!strcmp(dma.how, "translated") && dma.pa == PAGE + 0x10 && dma.reached);
    CHECK(!smmu_wizard_read(&s, PAGE + 0x10, in, sizeof in) && !strcmp(in, "hello"));
    memset(in, 0, sizeof in);
    CHECK(!smmu_wizard_dma(&s, 0, SID, IOVA + 0x10, in, sizeof in, NULL, &dma) && !strcmp(in, "hello"));

    /* Nothing is mapped there: F_TRANSLATION, told by the event queue's message. */
    CHECK(!smmu_wizard_dma(&s, 1, SID, IOVA + 0x3000, out, sizeof out, NULL, &dma));
    CHECK(!strcmp(dma.how, "aborted") && !strcmp(dma.event, "F_TRANSLATION") && dma.recorded);
    CHECK(interrupts == 1 && smmu_wizard_readl(&s, MESSAGE) == 0x2a);
    CHECK(smmu_wizard_readl(&s, SMMU + EVENTQ_PROD) == 1);
    CHECK(!smmu_wizard_read(&s, EVENTS, record, sizeof record));
    CHECK((record[0] & 0xff) == 0x10 && record[0] >> 32 == SID && record[2] == IOVA + 0x3000 && !(record[1] >> 35 & 1));
    if (argc < 2 || strcmp(argv[1], "forgets"))
        smmu_wizard_writel(&s, SMMU + EVENTQ_CONS, 1);

    /* A command that is none: the queue stops, and goes on when the error is acknowledged (7.1). */
    command(0xff, 0);
    CHECK((smmu_wizard_readl(&s, SMMU + GERROR) ^ smmu_wizard_readl(&s, SMMU + GERRORN)) == 1);
    CHECK(smmu_wizard_readl(&s, SMMU + CMDQ_CONS) >> 24 == 1);
    store(COMMANDS + 16 * ((prod - 1) & 7), 0x46);
    smmu_wizard_writel(&s, SMMU + GERRORN, smmu_wizard_readl(&s, SMMU + GERROR));
    CHECK((smmu_wizard_readl(&s, SMMU + CMDQ_CONS) & 0xfffff) == prod);
    sync(3);

    CHECK(!s.failed);
    CHECK(smmu_wizard_readl(&s, 0x10) == 0 && s.failed && strstr(s.error, "nothing answers at 0x10"));
    smmu_wizard_close(&s);
    puts("driver: fine");
    return 0;
}
